// node send.js PHONE TEMPLATE CODE KEY
import { Relay } from './relay.js'

const [phone, template, code, key] = process.argv.slice(2)
const url = process.env.RELAY_URL ?? 'http://127.0.0.1:8080/'
const relay = new Relay({ url, secret: process.env.SMSQ_RELAY_SECRET })
try {
  console.log(await relay.send({ phone, template, code, key }))
} catch (error) {
  console.error(`${error.constructor.name}: ${error.message}`)
  process.exitCode = 1
}
