// Records as JSON lines: bytes in base64, one record a line, the same for every client script.

const readline = require('node:readline')
const { parseArgs } = require('node:util')

const { CompressionCodecs, CompressionTypes } = require('kafkajs')

exports.options = (defaults) => {
  const { values } = parseArgs({
    options: {
      bootstrap: { type: 'string' },
      topic: { type: 'string' },
      codec: { type: 'string', default: 'none' },
      acks: { type: 'string', default: 'all' },
      idempotent: { type: 'boolean', default: false },
      partition: { type: 'string', multiple: true },
      'timeout-ms': { type: 'string', default: '30000' },
    },
  })
  for (const name of ['bootstrap', 'topic']) {
    if (!values[name]) throw new Error(`--${name} is missing`)
  }
  return { ...values, timeout: Number(values['timeout-ms']) }
}

const decoded = (text) => (text === null ? null : Buffer.from(text, 'base64'))
const encoded = (data) => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'))

exports.records = async () => {
  const records = []
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const record = JSON.parse(line)
    const headers = {}
    for (const [name, value] of record.headers) {
      // Only a list can hold a repeated name.
      headers[name] = name in headers ? [headers[name], decoded(value)].flat() : decoded(value)
    }
    const message = { key: decoded(record.key), value: decoded(record.value), headers }
    if (record.partition !== null) message.partition = record.partition
    if (record.timestamp !== null) message.timestamp = String(record.timestamp)
    records.push(message)
  }
  return records
}

exports.acknowledged = (n, partition, offset) => process.stdout.write(JSON.stringify({ n, partition, offset }) + '\n')

exports.refused = (n, error) => process.stdout.write(JSON.stringify({ n, error: String(error) }) + '\n')

exports.seen = (partition, message) => {
  const headers = Object.entries(message.headers).flatMap(([name, value]) =>
    [value].flat().map((one) => [name, encoded(one)]))
  process.stdout.write(JSON.stringify({
    partition,
    offset: Number(message.offset),
    key: encoded(message.key),
    value: encoded(message.value),
    headers,
    timestamp: Number(message.timestamp),
  }) + '\n')
}

// kafkajs brings gzip and leaves the rest to plugins.
exports.installCodecs = async () => {
  CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
  const lz4 = require('lz4-napi')
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: (encoder) => lz4.compressFrame(encoder.buffer),
    decompress: (buffer) => lz4.decompressFrame(buffer),
  })
  const zstd = require('@bokuweb/zstd-wasm')
  await zstd.init()
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer, 3)),
    decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
  })
}

exports.compressionOf = (codec) => ({
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
})[codec]
