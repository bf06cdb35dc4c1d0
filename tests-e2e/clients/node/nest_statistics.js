// A NestJS service: consumes events and keeps running statistics by type, user and minute, serves them over HTTP and by request
// and reply, and puts what failed three times on a dead-letter topic.

const { Controller, Get, Inject, Module } = require('@nestjs/common')
const { NestFactory } = require('@nestjs/core')
const { ClientsModule, Ctx, EventPattern, KafkaRetriableException, MessagePattern, Payload, Transport } = require('@nestjs/microservices')
const { firstValueFrom } = require('rxjs')

const { decorate } = require('./nest_decorate')

const ATTEMPTS = 3
const [bootstrap, port] = process.argv.slice(2)
const client = { clientId: 'statistics', brokers: bootstrap.split(',') }

const statistics = { events: 0, views: 0, types: {}, users: {}, minutes: {}, dead: 0 }
const attempts = new Map()

const count = (counts, name) => { counts[name] = (counts[name] ?? 0) + 1 }

class StatisticsController {
  constructor (kafka) {
    this.kafka = kafka
  }

  async event (event, context) {
    if (event.poisoned) {
      const place = `${context.getTopic()}-${context.getPartition()}@${context.getMessage().offset}`
      attempts.set(place, (attempts.get(place) ?? 0) + 1)
      if (attempts.get(place) < ATTEMPTS) throw new KafkaRetriableException(`${place} cannot be counted`)
      await firstValueFrom(this.kafka.emit('dead-letters', { key: event.user, value: event, headers: { place, attempts: String(attempts.get(place)) } }))
      return
    }
    statistics.events++
    count(statistics.types, event.type)
    count(statistics.users, event.user)
    count(statistics.minutes, Math.floor(event.at / 60_000))
  }

  view (view) {
    statistics.views++
    count(statistics.users, view.user)
  }

  dead () {
    statistics.dead++
  }

  user ({ user }) {
    return { user, count: statistics.users[user] ?? 0 }
  }

  all () {
    return statistics
  }
}

decorate(StatisticsController, {
  decorators: [Controller()],
  parameters: [Inject('KAFKA')],
  methods: {
    event: [[EventPattern('user-events')], Payload(), Ctx()],
    view: [[EventPattern('page-views')], Payload()],
    dead: [[EventPattern('dead-letters')]],
    user: [[MessagePattern('statistics.user')], Payload()],
    all: [[Get('statistics')]],
  },
})

class StatisticsModule {}
decorate(StatisticsModule, {
  decorators: [Module({
    imports: [ClientsModule.register([{ name: 'KAFKA', transport: Transport.KAFKA, options: { client, producerOnlyMode: true } }])],
    controllers: [StatisticsController],
  })],
})

async function main () {
  const app = await NestFactory.create(StatisticsModule, { logger: ['error'] })
  app.connectMicroservice({
    transport: Transport.KAFKA,
    options: {
      client,
      consumer: { groupId: 'statistics', sessionTimeout: 10_000, heartbeatInterval: 300, retry: { retries: 10, initialRetryTime: 50 } },
      subscribe: { fromBeginning: true },
    },
  })
  app.enableShutdownHooks()
  await app.startAllMicroservices()
  await app.listen(Number(port), '127.0.0.1')
  console.log('listening')
}

main()
