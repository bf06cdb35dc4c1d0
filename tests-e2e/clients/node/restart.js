// A service that produces and consumes without a pause while whoever started it restarts the Kafka that serves it: all with
// kafkajs's default retries, so that nothing here helps it over the gap. Says `steady` when a third is through, `done` at the end.

const assert = require('node:assert/strict')
const { parseArgs } = require('node:util')

const { Kafka, logLevel } = require('kafkajs')

const { values: options } = parseArgs({
  options: { bootstrap: { type: 'string' }, scale: { type: 'string', default: '1' } },
})
const TOTAL = 600 * Number(options.scale)
const BOUND_MS = 120_000
const PARTITIONS = 3
const [topic, groupId] = ['restarted', 'through-a-restart']

const kafka = new Kafka({ clientId: 'service', brokers: options.bootstrap.split(','), logLevel: logLevel.NOTHING })
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function main () {
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }] })

  const seen = new Map()
  let restarts = 0
  const member = kafka.consumer({ groupId })
  member.on(member.events.CRASH, () => { restarts += 1 })
  await member.connect()
  await member.subscribe({ topics: [topic], fromBeginning: true })
  await member.run({
    eachMessage: async ({ partition, message }) => {
      const places = seen.get(message.value.toString()) ?? new Set()
      seen.set(message.value.toString(), places.add(`${partition}-${message.offset}`))
    },
  })

  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  let longest = 0
  for (let n = 0; n < TOTAL; n += 5) {
    const began = Date.now()
    // A record that is refused ends the service: the retries have to be enough.
    await producer.send({ topic, acks: -1, messages: Array.from({ length: 5 }, (_, i) => ({ key: String((n + i) % 50), value: String(n + i) })) })
    longest = Math.max(longest, Date.now() - began)
    if (n === Math.floor(TOTAL / 15) * 5) console.log('steady')
    await pause(20)
  }
  const deadline = Date.now() + BOUND_MS
  while (seen.size < TOTAL) {
    assert.ok(Date.now() < deadline, `${seen.size} of ${TOTAL} seen within ${BOUND_MS} ms`)
    await pause(50)
  }
  for (const [number, places] of seen) assert.equal(places.size, 1, `record ${number} is in ${[...places]}`)
  await member.disconnect()
  const [answer] = await admin.fetchOffsets({ groupId, topics: [topic] })
  assert.equal(answer.partitions.map(({ offset }) => Number(offset)).reduce((a, b) => a + b), TOTAL)
  await producer.disconnect()
  await admin.disconnect()
  console.log(`done: ${TOTAL} records, each in one place; the longest send took ${longest} ms, the consumer began anew ${restarts} times`)
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
