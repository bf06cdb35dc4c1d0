// A kafkajs service's whole life with groups: one step after the other, each checked here. Runs the same against any Kafka.

const assert = require('node:assert/strict')
const { once, EventEmitter } = require('node:events')
const { parseArgs } = require('node:util')

const { AssignerProtocol, CompressionTypes, ConfigResourceTypes, Kafka, PartitionAssigners, logLevel } = require('kafkajs')

const { values: options } = parseArgs({
  options: { bootstrap: { type: 'string' }, prefix: { type: 'string', default: 'app' }, scale: { type: 'string', default: '1' } },
})
const brokers = options.bootstrap.split(',')
const scale = Number(options.scale)
const PARTITIONS = 6
const BOUND_MS = 60_000

const kafka = new Kafka({ clientId: 'service', brokers, logLevel: logLevel.NOTHING })
const admin = kafka.admin()
const named = (name) => `${options.prefix}-${name}`
const fast = { maxWaitTimeInMs: 300, heartbeatInterval: 250, sessionTimeout: 10_000, rebalanceTimeout: 10_000 }

// Resolves when `done()` holds; looks again whenever something was consumed or a group was joined.
class Progress extends EventEmitter {
  constructor () {
    super()
    this.setMaxListeners(100)
  }

  async until (what, done) {
    const signal = AbortSignal.timeout(BOUND_MS)
    while (!done()) {
      await once(this, 'step', { signal }).catch(() => assert.fail(`${what}: not within ${BOUND_MS} ms`))
    }
  }
}

const expected = (from, to) => Array.from({ length: to - from }, (_, n) => String(from + n))
const sorted = (set) => [...set].sort((a, b) => a - b)

async function produce (topic, from, to) {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const message = (n) => ({ key: `k${n % 20}`, value: String(n), headers: { trace: `t${n}` } })
  const half = Math.floor((from + to) / 2)
  await producer.send({ topic, acks: -1, compression: CompressionTypes.GZIP, messages: expected(from, half).map(message) })
  await producer.sendBatch({ acks: -1, topicMessages: [{ topic, messages: expected(half, to).map(message) }] })
  await producer.disconnect()
}

async function consumer (groupId, topic, handlers, settings = {}) {
  const member = kafka.consumer({ groupId, ...fast, ...settings })
  await member.connect()
  await member.subscribe({ topics: [topic], fromBeginning: true })
  await member.run(handlers)
  return member
}

const committed = async (groupId, topic) => {
  const [answer] = await admin.fetchOffsets({ groupId, topics: [topic] })
  return answer.partitions.map(({ offset }) => Math.max(0, Number(offset))).reduce((a, b) => a + b, 0)
}

// Ten records a second apart, in one partition; kafkajs says the end where no record is that young.
async function recordsByTime () {
  const topic = named('timed')
  await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] })
  const began = Date.now() - 60_000
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const messages = Array.from({ length: 10 }, (_, n) => ({ partition: 1, value: String(n), timestamp: String(began + n * 1000) }))
  await producer.send({ topic, messages })
  await producer.disconnect()
  for (const [time, expected] of [[began, '0'], [began + 2500, '3'], [began + 9000, '9'], [began + 9001, '10'], [undefined, '10']]) {
    const offsets = await admin.fetchTopicOffsetsByTimestamp(topic, time)
    const found = Object.fromEntries(offsets.map(({ partition, offset }) => [partition, offset]))
    assert.deepEqual(found, { 0: '0', 1: expected }, `since ${time}`)
  }
}

// Up to an offset, up to the end, and further than that; who begins at the beginning then begins at the first that is left.
async function recordsDeleted (topic) {
  const before = await admin.fetchTopicOffsets(topic)
  const end = (partition) => before.find((place) => place.partition === partition).high
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '10' }, { partition: 1, offset: '-1' }] })
  const after = await admin.fetchTopicOffsets(topic)
  const low = (partition) => after.find((place) => place.partition === partition).low
  assert.deepEqual([low(0), low(1), low(2)], ['10', end(1), '0'])
  const past = { topic, partitions: [{ partition: 2, offset: String(Number(end(2)) + 1) }] }
  // It would ask five times more.
  const impatient = new Kafka({ brokers, logLevel: logLevel.NOTHING }).admin({ retry: { retries: 0 } })
  await impatient.fetchTopicOffsets(topic)
  await assert.rejects(impatient.deleteTopicRecords(past), (error) => (error.cause ?? error).partitions[0].error.type === 'OFFSET_OUT_OF_RANGE')
  await impatient.disconnect()

  const [progress, first, seen] = [new Progress(), new Map(), new Set()]
  const member = await consumer(named('late'), topic, {
    eachMessage: async ({ partition, message }) => {
      if (!first.has(partition)) first.set(partition, message.offset)
      seen.add(`${partition}-${message.offset}`)
      progress.emit('step')
    },
  })
  const left = after.map(({ low, high }) => high - low).reduce((a, b) => a + b)
  await progress.until(`the ${left} records that are left`, () => seen.size === left)
  await member.disconnect()
  assert.deepEqual([first.get(0), first.get(1), first.get(2)], ['10', undefined, '0'])
}

const steps = {
  // eachMessage with autocommit; a second start goes on where the first ended.
  async eachMessage () {
    const [topic, group, progress] = [named('messages'), named('each-message'), new Progress()]
    await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }] })
    await produce(topic, 0, 300)
    const seen = new Set()
    const handler = {
      eachMessage: async ({ message }) => {
        assert.equal(message.headers.trace.toString(), `t${message.value}`)
        assert.ok(!seen.has(message.value.toString()), `${message.value} twice`)
        seen.add(message.value.toString())
        progress.emit('step')
      },
    }
    const first = await consumer(group, topic, handler)
    await progress.until('300 messages', () => seen.size === 300)
    await first.stop()
    assert.equal(await committed(group, topic), 300)
    await produce(topic, 300, 400)
    await first.run(handler)
    await progress.until('100 more after stop and run', () => seen.size === 400)
    await first.disconnect()
    assert.deepEqual(sorted(seen), expected(0, 400))
  },

  // eachBatch with everything by hand: resolve, heartbeat, commit, stale batches, seek, pause and resume.
  async eachBatch () {
    const [topic, group, progress] = [named('messages'), named('each-batch'), new Progress()]
    const seen = new Map()
    const member = await consumer(group, topic, {
      eachBatchAutoResolve: false,
      autoCommit: false,
      eachBatch: async ({ batch, resolveOffset, heartbeat, commitOffsetsIfNecessary, uncommittedOffsets, isRunning, isStale }) => {
        for (const message of batch.messages) {
          if (!isRunning() || isStale()) break
          seen.set(message.value.toString(), (seen.get(message.value.toString()) ?? 0) + 1)
          resolveOffset(message.offset)
          await heartbeat()
        }
        await commitOffsetsIfNecessary(uncommittedOffsets())
        progress.emit('step')
      },
    })
    await progress.until('400 messages in batches', () => seen.size === 400)
    member.pause([{ topic }])
    await produce(topic, 400, 450)
    const before = seen.size
    member.resume([{ topic }])
    await progress.until('what came while paused', () => seen.size === 450)
    assert.equal(before, 400)
    for (let partition = 0; partition < PARTITIONS; partition++) member.seek({ topic, partition, offset: '0' })
    await progress.until('all of it again', () => [...seen.values()].every((count) => count === 2))
    await member.commitOffsets([{ topic, partition: 0, offset: '1', metadata: 'by hand' }])
    const [answer] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    const first = answer.partitions.find(({ partition }) => partition === 0)
    assert.deepEqual({ offset: first.offset, metadata: first.metadata }, { offset: '1', metadata: 'by hand' })
    await member.disconnect()
  },

  // Three members come and go; every partition has one owner whenever the group is at rest.
  async rebalances () {
    const topic = named('rebalanced')
    await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }] })
    const everyoneReversed = ({ cluster }) => ({
      name: 'Reversed',
      version: 1,
      async assign ({ members, topics }) {
        const ids = members.map(({ memberId }) => memberId).sort().reverse()
        const given = Object.fromEntries(ids.map((id) => [id, {}]))
        for (const name of topics) {
          cluster.findTopicPartitionMetadata(name).forEach(({ partitionId }, n) => {
            const own = given[ids[n % ids.length]]
            own[name] = [...(own[name] ?? []), partitionId]
          })
        }
        return ids.map((memberId) => ({
          memberId,
          memberAssignment: AssignerProtocol.MemberAssignment.encode({ version: this.version, assignment: given[memberId], userData: Buffer.alloc(0) }),
        }))
      },
      protocol ({ topics }) {
        return { name: this.name, metadata: AssignerProtocol.MemberMetadata.encode({ version: this.version, topics, userData: Buffer.alloc(0) }) }
      },
    })
    let produced = 0
    for (const [name, assigner] of [['round-robin', PartitionAssigners.roundRobin], ['custom', everyoneReversed]]) {
      const [group, progress] = [named(`rebalances-${name}`), new Progress()]
      const seen = new Set()
      const join = async () => {
        const member = kafka.consumer({ groupId: group, ...fast, partitionAssigners: [assigner] })
        const own = { member, partitions: [] }
        member.on(member.events.GROUP_JOIN, ({ payload }) => {
          own.partitions = payload.memberAssignment[topic] ?? []
          progress.emit('step')
        })
        await member.connect()
        await member.subscribe({ topics: [topic], fromBeginning: true })
        await member.run({ eachMessage: async ({ message }) => { seen.add(message.value.toString()); progress.emit('step') } })
        return own
      }
      const atRest = (members) => () => {
        const all = members.flatMap(({ partitions }) => partitions).sort()
        const shares = members.map(({ partitions }) => partitions.length)
        return all.join() === '0,1,2,3,4,5' && Math.max(...shares) - Math.min(...shares) <= 1
      }
      const members = []
      for (let round = 0; round < scale; round++) {
        while (members.length < 3) {
          members.push(await join())
          await progress.until(`${name}: ${members.length} members share`, atRest(members))
        }
        await produce(topic, produced, produced + 120 * scale)
        produced += 120 * scale
        await progress.until(`${name}: all seen by three`, () => seen.size === produced)
        while (members.length > 1) {
          await members.shift().member.disconnect()
          await progress.until(`${name}: ${members.length} members are left`, atRest(members))
        }
      }
      await members[0].member.disconnect()
    }
  },

  async administration () {
    const topic = named('administered')
    const configEntries = [
      { name: 'retention.ms', value: '3600000' },
      { name: 'cleanup.policy', value: 'compact' },
      { name: 'compression.type', value: 'lz4' },
      { name: 'min.insync.replicas', value: '1' },
    ]
    assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 2, configEntries }] }), true)
    assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] }), false)
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    assert.ok((await admin.listTopics()).includes(topic))
    const { topics: [metadata] } = await admin.fetchTopicMetadata({ topics: [topic] })
    assert.deepEqual(metadata.partitions.map(({ partitionId }) => partitionId).sort(), [0, 1, 2, 3])
    const { resources: [described] } = await admin.describeConfigs({
      includeSynonyms: true,
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
    })
    const given = described.configEntries.filter((entry) => entry.configSource === 1).map((entry) => ({ name: entry.configName, value: entry.configValue }))
    assert.deepEqual(given.sort((a, b) => a.name < b.name ? -1 : 1), configEntries.sort((a, b) => a.name < b.name ? -1 : 1))
    assert.ok(described.configEntries.some((entry) => entry.configName === 'segment.bytes' && entry.isDefault))
    // The whole set is replaced: what is not named has its default again.
    const changed = [{ name: 'cleanup.policy', value: 'compact,delete' }, { name: 'retention.ms', value: '7200000' }, { name: 'retention.bytes', value: '1000000' }]
    await admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: changed }] })
    const { resources: [after] } = await admin.describeConfigs({
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: [...changed, { name: 'compression.type' }].map(({ name }) => name) }],
    })
    assert.deepEqual(Object.fromEntries(after.configEntries.map((entry) => [entry.configName, entry.configValue])), {
      'cleanup.policy': 'compact,delete', 'compression.type': 'producer', 'retention.bytes': '1000000', 'retention.ms': '7200000',
    })
    const wrong = [{ name: 'cleanup.policy', value: 'sometimes' }]
    await assert.rejects(admin.createTopics({ topics: [{ topic: named('wrong'), configEntries: wrong }] }), (error) => error.errors[0].type === 'INVALID_CONFIG')

    const records = named('messages')
    const ends = await admin.fetchTopicOffsets(records)
    assert.equal(ends.map(({ high }) => Number(high)).reduce((a, b) => a + b), 450)
    const early = await admin.fetchTopicOffsetsByTimestamp(records, 0)
    assert.ok(early.every(({ offset }) => offset === '0'))
    await recordsByTime()
    await recordsDeleted(records)

    const group = named('each-message')
    await admin.setOffsets({ groupId: group, topic: records, partitions: [{ partition: 1, offset: '5' }] })
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [records] })
    assert.equal(partitions.find(({ partition }) => partition === 1).offset, '5')
    await admin.resetOffsets({ groupId: group, topic: records, earliest: true })
    assert.equal(await committed(group, records), 0)
    const { groups } = await admin.listGroups()
    assert.ok(groups.some(({ groupId, protocolType }) => groupId === group && protocolType === 'consumer'))
    const { groups: [state] } = await admin.describeGroups([group])
    assert.deepEqual({ errorCode: state.errorCode, state: state.state, members: state.members.length }, { errorCode: 0, state: 'Empty', members: 0 })
    await admin.deleteGroups([group])
    assert.ok(!(await admin.listGroups()).groups.some(({ groupId }) => groupId === group))
    await assert.rejects(admin.deleteGroups([named('nobody')]), (error) => error.groups[0].errorCode === 69)

    const cluster = await admin.describeCluster()
    assert.ok(cluster.brokers.length >= 1 && cluster.brokers.some(({ nodeId }) => nodeId === cluster.controller))
  },

  async instrumentation () {
    const [topic, group, progress] = [named('messages'), named('observed'), new Progress()]
    const events = new Set()
    const member = kafka.consumer({ groupId: group, ...fast })
    for (const name of ['CONNECT', 'GROUP_JOIN', 'FETCH', 'START_BATCH_PROCESS', 'END_BATCH_PROCESS', 'COMMIT_OFFSETS', 'HEARTBEAT', 'STOP', 'DISCONNECT']) {
      member.on(member.events[name], () => { events.add(name); progress.emit('step') })
    }
    await member.connect()
    await member.subscribe({ topics: [topic], fromBeginning: true })
    await member.run({ autoCommitInterval: 100, eachMessage: async () => {} })
    await progress.until('events of a running consumer', () => ['COMMIT_OFFSETS', 'HEARTBEAT', 'END_BATCH_PROCESS'].every((name) => events.has(name)))
    await member.disconnect()
    assert.deepEqual([...events].sort(), ['COMMIT_OFFSETS', 'CONNECT', 'DISCONNECT', 'END_BATCH_PROCESS', 'FETCH', 'GROUP_JOIN', 'HEARTBEAT', 'START_BATCH_PROCESS', 'STOP'])
  },
}

async function main () {
  await admin.connect()
  for (const [name, step] of Object.entries(steps)) {
    const began = performance.now()
    try {
      await step()
    } catch (error) {
      error.message = `${name}: ${error.message}`
      throw error
    }
    console.log(`${name}: ${Math.round(performance.now() - began)} ms`)
  }
  await admin.disconnect()
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
