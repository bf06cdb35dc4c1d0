// A NestJS service: takes user events and page views over HTTP and emits them, one by one or in batches; asks the statistics
// service by request and reply.

const { Body, Controller, Get, HttpCode, Inject, Module, Param, Post } = require('@nestjs/common')
const { NestFactory } = require('@nestjs/core')
const { ClientsModule, Transport } = require('@nestjs/microservices')
const { firstValueFrom, timeout } = require('rxjs')

const { decorate } = require('./nest_decorate')

const BOUND_MS = 30_000
const [bootstrap, port] = process.argv.slice(2)

class AnalyticsController {
  constructor (kafka) {
    this.kafka = kafka
  }

  async onModuleInit () {
    this.kafka.subscribeToResponseOf('statistics.user')
    await this.kafka.connect()
  }

  async emit (topic, events) {
    const messages = events.map((event) => ({ key: event.user, value: event, headers: { source: 'analytics' } }))
    if (messages.length === 1) await firstValueFrom(this.kafka.emit(topic, messages[0]))
    else await firstValueFrom(this.kafka.emitBatch(topic, { messages }))
    return { accepted: events.length }
  }

  event (event) {
    return this.emit('user-events', [event])
  }

  events (events) {
    return this.emit('user-events', events)
  }

  views (views) {
    return this.emit('page-views', views)
  }

  user (user) {
    return firstValueFrom(this.kafka.send('statistics.user', { key: user, value: { user } }).pipe(timeout(BOUND_MS)))
  }
}

decorate(AnalyticsController, {
  decorators: [Controller()],
  parameters: [Inject('KAFKA')],
  methods: {
    event: [[Post('events'), HttpCode(202)], Body()],
    events: [[Post('events/batch'), HttpCode(202)], Body()],
    views: [[Post('views/batch'), HttpCode(202)], Body()],
    user: [[Get('users/:user')], Param('user')],
  },
})

class AnalyticsModule {}
decorate(AnalyticsModule, {
  decorators: [Module({
    imports: [ClientsModule.register([{
      name: 'KAFKA',
      transport: Transport.KAFKA,
      options: {
        client: { clientId: 'analytics', brokers: bootstrap.split(',') },
        consumer: { groupId: 'analytics' },
        producer: { idempotent: true, maxInFlightRequests: 1 },
      },
    }])],
    controllers: [AnalyticsController],
  })],
})

async function main () {
  const app = await NestFactory.create(AnalyticsModule, { logger: ['error'] })
  app.enableShutdownHooks()
  await app.listen(Number(port), '127.0.0.1')
  console.log('listening')
}

main()
