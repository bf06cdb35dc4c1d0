// Drives a NestJS application of two services through its HTTP API and compares the counts; restarts the consuming one in the
// middle, which must go on where it was and lose nothing.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { createServer } = require('node:net')
const path = require('node:path')
const { parseArgs } = require('node:util')

const { Kafka, logLevel } = require('kafkajs')

const { values: { bootstrap } } = parseArgs({ options: { bootstrap: { type: 'string' } } })
const BOUND_MS = 60_000
const running = new Set()

async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

async function start (script) {
  const port = await freePort()
  const child = spawn(process.execPath, [path.join(__dirname, script), bootstrap, String(port)], { stdio: ['ignore', 'pipe', 'inherit'] })
  running.add(child)
  child.once('exit', () => running.delete(child))
  const [line] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => assert.fail(`${script} ended`))])
  assert.match(line.toString(), /listening/)
  const call = async (method, path, body) => {
    const response = await fetch(`http://127.0.0.1:${port}/${path}`, { method, body: JSON.stringify(body), headers: { 'content-type': 'application/json' } })
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.clone().text()}`)
    return response.json()
  }
  const stop = async () => {
    child.kill('SIGTERM')
    const [code, signal] = await once(child, 'exit')
    // Nest closes everything and then ends by the signal it was given.
    assert.ok(code === 0 || signal === 'SIGTERM', `${script}: ${code} ${signal}`)
  }
  return { get: (path) => call('GET', path), post: (path, body) => call('POST', path, body), stop }
}

async function until (what, look) {
  const deadline = Date.now() + BOUND_MS
  for (;;) {
    const { done, seen } = await look()
    if (done) return seen
    assert.ok(Date.now() < deadline, `${what}: not within ${BOUND_MS} ms; saw ${JSON.stringify(seen)}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function main () {
  const admin = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  const topics = ['user-events', 'page-views', 'dead-letters', 'statistics.user', 'statistics.user.reply']
  await admin.createTopics({ waitForLeaders: true, topics: topics.map((topic) => ({ topic, numPartitions: 3 })) })

  let statistics = await start('nest_statistics.js')
  const analytics = await start('nest_analytics.js')
  const event = (n) => ({ type: ['signup', 'click', 'purchase'][n % 3], user: `user-${n % 7}`, at: 60_000 * (n % 5) })
  for (let n = 0; n < 30; n++) await analytics.post('events', event(n))
  await analytics.post('events/batch', Array.from({ length: 300 }, (_, n) => event(n)))
  await analytics.post('views/batch', Array.from({ length: 70 }, (_, n) => ({ page: `/${n}`, user: `user-${n % 7}` })))
  const counted = await until('330 events and 70 views', async () => {
    const seen = await statistics.get('statistics')
    return { done: seen.events === 330 && seen.views === 70, seen }
  })
  assert.deepEqual(counted.types, { signup: 110, click: 110, purchase: 110 })
  assert.deepEqual(counted.minutes, { 0: 66, 1: 66, 2: 66, 3: 66, 4: 66 })
  assert.equal(Object.values(counted.users).reduce((a, b) => a + b), 400)
  assert.deepEqual(await analytics.get('users/user-3'), { user: 'user-3', count: counted.users['user-3'] })

  await analytics.post('events', { ...event(0), poisoned: true })
  await until('a dead letter', async () => {
    const seen = await statistics.get('statistics')
    return { done: seen.dead === 1, seen }
  })

  await statistics.stop()
  await analytics.post('events/batch', Array.from({ length: 90 }, (_, n) => event(n)))
  statistics = await start('nest_statistics.js')
  const after = await until('what came while it was away', async () => {
    const seen = await statistics.get('statistics')
    return { done: seen.events === 90, seen }
  })
  assert.deepEqual(after.types, { signup: 30, click: 30, purchase: 30 })
  await statistics.stop()
  await analytics.stop()
  const [committed] = await admin.fetchOffsets({ groupId: 'statistics-server', topics: ['user-events'] })
  assert.equal(committed.partitions.map(({ offset }) => Math.max(0, Number(offset))).reduce((a, b) => a + b), 421)
  await admin.disconnect()
  console.log('330 + 90 events, 70 views, 1 dead letter: counted')
}

main().then(() => process.exit(0), (error) => {
  running.forEach((child) => child.kill('SIGKILL'))
  console.error(error)
  process.exit(1)
})
