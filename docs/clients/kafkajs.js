// Sends three orders and reads them in a group.
const { Kafka } = require('kafkajs')

async function main () {
  const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: 1 })
  const topic = 'orders-kafkajs'
  const admin = kafka.admin()
  await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] })
  await admin.disconnect()

  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  await producer.send({ topic, messages: [1, 2, 3].map((n) => ({ key: 'customer-7', value: `order-${n}` })) })
  await producer.disconnect()

  const consumer = kafka.consumer({ groupId: 'billing-kafkajs' })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  let left = 3
  await new Promise((resolve) => consumer.run({
    eachMessage: async ({ partition, message }) => {
      console.log(partition, message.offset, message.value.toString())
      if (--left === 0) resolve()
    },
  }))
  await consumer.disconnect() // commits
}

main()
