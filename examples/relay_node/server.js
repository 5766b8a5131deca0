import { createServer } from 'node:http'
import { pathToFileURL } from 'node:url'
import { BadSignature, verify } from './webhook.js'

const MAX_BODY = 65_536

/**
 * Return the server that SMSQ_WEBHOOK_URL points at.
 *
 * It answers 2xx only when `save(webhookId, outcome)` is done. A callback comes at least once, and one
 * that comes again has the same webhookId: make it the unique key of your table.
 */
export function callbackServer(secret, save) {
  return createServer(async (request, response) => {
    try {
      const parts = []
      let size = 0
      for await (const part of request) {
        size += part.length
        if (size > MAX_BODY) return response.writeHead(413, { Connection: 'close' }).end()
        parts.push(part)
      }
      const event = verify(Buffer.concat(parts), request.headers, secret)
      await save(request.headers['webhook-id'], event.data)
      response.writeHead(204).end()
    } catch (error) {
      console.error('a webhook was not taken:', error.message)
      response.writeHead(error instanceof BadSignature ? 401 : 500).end()
    }
  })
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { hostname, port } = new URL(process.env.SMSQ_WEBHOOK_URL)
  const print = async (id, outcome) => console.log(id, outcome.state, outcome.stat)
  callbackServer(process.env.SMSQ_WEBHOOK_SECRET, print).listen(Number(port), hostname)
}
