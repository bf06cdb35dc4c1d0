// Produces with kafkajs; prints a line for each answer.

const { Kafka, Partitioners, logLevel } = require('kafkajs')

const lines = require('./lines')

const BATCH = 500

async function main() {
  const options = lines.options()
  await lines.installCodecs()
  const kafka = new Kafka({ clientId: 'kafkajs', brokers: options.bootstrap.split(','), logLevel: logLevel.ERROR })
  // kafkajs tells the first offset of each partition only, so we note where each message went.
  const placed = () => {
    const choose = Partitioners.DefaultPartitioner()
    return (request) => {
      request.message.place = choose(request)
      return request.message.place
    }
  }
  const producer = kafka.producer({
    idempotent: options.idempotent,
    maxInFlightRequests: options.idempotent ? 1 : undefined,
    createPartitioner: placed,
  })
  await producer.connect()
  const records = await lines.records()
  let refused = 0
  for (let start = 0; start < records.length; start += BATCH) {
    const messages = records.slice(start, start + BATCH)
    try {
      const answers = await producer.send({
        topic: options.topic,
        acks: options.acks === 'all' ? -1 : Number(options.acks),
        compression: lines.compressionOf(options.codec),
        timeout: options.timeout,
        messages,
      })
      const next = new Map(answers.map((answer) => [answer.partition, Number(answer.baseOffset)]))
      messages.forEach((message, index) => {
        const offset = next.get(message.place)
        if (offset === undefined) return lines.acknowledged(start + index, message.place, -1)
        next.set(message.place, offset + 1)
        lines.acknowledged(start + index, message.place, offset)
      })
    } catch (error) {
      refused += messages.length
      messages.forEach((_, index) => lines.refused(start + index, error))
    }
  }
  await producer.disconnect()
  process.exitCode = refused ? 1 : 0
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
