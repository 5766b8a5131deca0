// node --test, beside a running `smsq up`: see README.md.
import assert from 'node:assert/strict'
import { createHmac, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { test } from 'node:test'
import { Refused, Relay, Unavailable } from '../relay.js'
import { callbackServer } from '../server.js'
import { BadSignature, verify } from '../webhook.js'

const PATIENCE_MS = 60_000
const MESSAGE = { phone: '13800138000', template: 'SMS_1001', code: '482913', key: 'login-1' }
const OK = '{"code":200,"msg":"ok","mid":"m1"}'
const NO = '{"code":400,"msg":"template must be given","mid":""}'

/** Serve while `act` runs. */
async function serving(server, host, port, act) {
  server.listen(port, host)
  await once(server, 'listening')
  try {
    return await act(server.address().port)
  } finally {
    server.close()
    server.closeAllConnections?.()
  }
}

/** Send once to a relay that gives these answers; return what came of it, and the keys it was sent. */
async function sent(...answers) {
  const keys = []
  const server = createServer(async (request, response) => {
    const parts = []
    for await (const part of request) parts.push(part)
    keys.push(new URLSearchParams(Buffer.concat(parts).toString()).get('key'))
    const answer = answers[keys.length - 1]
    if (answer === 'hang') return
    if (answer === 'break') return request.socket.destroy()
    if (typeof answer === 'number') response.statusCode = answer
    response.end(typeof answer === 'number' ? NO : answer)
  })
  const came = await serving(server, '127.0.0.1', 0, (port) => {
    const url = `http://127.0.0.1:${port}/`
    const relay = new Relay({ url, secret: 'secret', timeoutMs: 3000, tries: 5, waitMs: 10 })
    return relay.send(MESSAGE).catch((error) => error.constructor.name)
  })
  return [came, keys]
}

test('what may have been taken is sent again with the same key', async () => {
  assert.deepEqual(await sent(503, 'break', 500, 'hang', OK), ['m1', Array(5).fill('login-1')])
})

test('a refusal is not sent again', async () => {
  assert.deepEqual(await sent(NO), ['Refused', ['login-1']])
  assert.deepEqual(await sent(404), ['Refused', ['login-1']])
})

test('it gives up in the end', async () => {
  assert.equal((await sent(503, 429, 503, 503, 503))[0], 'Unavailable')
  const port = await serving(createServer(), '127.0.0.1', 0, async (port) => port)
  const nobody = new Relay({ url: `http://127.0.0.1:${port}/`, secret: 'secret', waitMs: 10 })
  await assert.rejects(nobody.send(MESSAGE), Unavailable)
})

test('a message without a key is not sent', async () => {
  const relay = new Relay({ url: 'http://127.0.0.1:1/', secret: 'secret' })
  await assert.rejects(relay.send({ ...MESSAGE, key: undefined }), TypeError)
})

test('a webhook is taken only as it was signed', () => {
  const key = Buffer.alloc(32, 'k')
  const secret = `whsec_${key.toString('base64')}`
  const body = Buffer.from('{"type":"t"}')
  const headers = (changes = {}) => {
    const at = changes['webhook-timestamp'] ?? String(Math.floor(Date.now() / 1000))
    const mac = createHmac('sha256', changes.key ?? key).update(`id.${at}.${body}`).digest('base64')
    return { 'webhook-id': 'id', 'webhook-timestamp': at, 'webhook-signature': `v1,${mac}`, ...changes }
  }
  assert.deepEqual(verify(body, headers(), secret), { type: 't' })
  const rotated = `v1,AAAA ${headers()['webhook-signature']}`
  assert.deepEqual(verify(body, headers({ 'webhook-signature': rotated }), secret), { type: 't' })
  const bad = [
    { key: 'other' },
    { 'webhook-id': 'id2' },
    { 'webhook-signature': '' },
    { 'webhook-signature': undefined },
    { 'webhook-timestamp': '' },
    { 'webhook-timestamp': String(Math.floor(Date.now() / 1000) - 301) }
  ]
  for (const one of bad) assert.throws(() => verify(body, headers(one), secret), BadSignature)
  assert.throws(() => verify(Buffer.from('{}'), headers(), secret), BadSignature)
})

test('smsq takes a message once, and tells how it ended', async () => {
  const { RELAY_URL: url = 'http://127.0.0.1:8080/', SMSQ_RELAY_SECRET: secret } = process.env
  const relay = new Relay({ url, secret, timeoutMs: PATIENCE_MS })
  const ends = new Map()
  const server = callbackServer(process.env.SMSQ_WEBHOOK_SECRET, async (id, outcome) => {
    ends.set(id, outcome)
    server.emit('saved')
  })
  const { hostname, port } = new URL(process.env.SMSQ_WEBHOOK_URL)
  await serving(server, hostname, Number(port), async () => {
    const message = { ...MESSAGE, key: `node-${randomUUID()}`, lane: 'notice' }
    const id = await relay.send(message)
    assert.equal(await relay.send(message), id)
    await assert.rejects(relay.send({ ...message, phone: '12', key: randomUUID() }), Refused)
    const stranger = new Relay({ url, secret: 'not-the-secret-of-anybody', timeoutMs: PATIENCE_MS })
    await assert.rejects(stranger.send(message), Refused)
    const signal = AbortSignal.timeout(PATIENCE_MS)
    while (!ends.has(`${id}.delivered`)) await once(server, 'saved', { signal })
    assert.equal(ends.get(`${id}.delivered`).stat, 'DELIVRD')
  })
})
