// Reads partitions from their beginning to the high watermark with kafkajs, without a group.
//
// The public consumer of kafkajs always joins a group. Its own parts below that, connection, metadata, fetch and decoding,
// do not need one, so they are used directly.

const { Kafka, logLevel } = require('kafkajs')
const Cluster = require('kafkajs/src/cluster')
const InstrumentationEventEmitter = require('kafkajs/src/instrumentation/emitter')
const { createLogger } = require('kafkajs/src/loggers')
const consoleLogger = require('kafkajs/src/loggers/console')
const socketFactory = require('kafkajs/src/network/socketFactory')

const lines = require('./lines')

async function main() {
  const options = lines.options()
  await lines.installCodecs()
  const kafka = new Kafka({ clientId: 'kafkajs', brokers: options.bootstrap.split(','), logLevel: logLevel.ERROR })
  const admin = kafka.admin()
  await admin.connect()
  const ends = new Map()
  const next = new Map()
  for (const { partition, low, high } of await admin.fetchTopicOffsets(options.topic)) {
    const wanted = !options.partition || options.partition.includes(String(partition))
    if (wanted && Number(high) > Number(low)) {
      next.set(partition, Number(low))
      ends.set(partition, Number(high))
    }
  }
  await admin.disconnect()

  const cluster = new Cluster({
    logger: createLogger({ level: logLevel.ERROR, logCreator: consoleLogger }),
    brokers: options.bootstrap.split(','),
    clientId: 'kafkajs',
    socketFactory: socketFactory(),
    connectionTimeout: 5000,
    authenticationTimeout: 5000,
    requestTimeout: options.timeout,
    enforceRequestTimeout: true,
    metadataMaxAge: 300000,
    retry: {},
    allowAutoTopicCreation: false,
    maxInFlightRequests: null,
    instrumentationEmitter: new InstrumentationEventEmitter(),
    isolationLevel: 1,
  })
  await cluster.connect()
  await cluster.addTargetTopic(options.topic)
  let progress = Date.now()
  while (next.size > 0) {
    const leaders = cluster.findLeaderForPartitions(options.topic, [...next.keys()])
    for (const [nodeId, partitions] of Object.entries(leaders)) {
      const broker = await cluster.findBroker({ nodeId })
      const wanted = partitions.filter((partition) => next.has(partition))
      const answer = await broker.fetch({
        maxWaitTime: 500,
        minBytes: 1,
        maxBytes: 64 * 1024 * 1024,
        topics: [{
          topic: options.topic,
          partitions: wanted.map((partition) => ({ partition, fetchOffset: String(next.get(partition)), maxBytes: 4 * 1024 * 1024 })),
        }],
      })
      for (const { partition, messages } of answer.responses.flatMap((response) => response.partitions)) {
        for (const message of messages) {
          // A batch is served whole: it may begin before what was asked for.
          if (Number(message.offset) < next.get(partition)) continue
          if (Number(message.offset) >= ends.get(partition)) break
          if (!message.isControlRecord) lines.seen(partition, message)
          next.set(partition, Number(message.offset) + 1)
          progress = Date.now()
        }
        if (next.get(partition) >= ends.get(partition)) next.delete(partition)
      }
    }
    if (Date.now() - progress > options.timeout) throw new Error(`nothing for ${options.timeout} ms`)
  }
  await cluster.disconnect()
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
