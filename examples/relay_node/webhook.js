import { createHmac, timingSafeEqual } from 'node:crypto'

const TOLERANCE_S = 300

/** The request is not from smsq, or is an old one that somebody repeats. */
export class BadSignature extends Error {}

/**
 * Return the event of a request: `type`, `timestamp`, `data`. Throws BadSignature.
 *
 * Verifies smsq's webhooks, which are signed as standardwebhooks.com specifies.
 *
 * @param {Buffer} body as it came: the signature is of these bytes, before any parsing
 * @param {Record<string, string | undefined>} headers as node:http has them, in small letters
 * @param {string} secret "whsec_..." of SMSQ_WEBHOOK_SECRET
 */
export function verify(body, headers, secret) {
  const id = headers['webhook-id'] ?? ''
  const timestamp = headers['webhook-timestamp'] ?? ''
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_S) {
    throw new BadSignature('the timestamp is missing or too far from now')
  }
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
  if (!key.length) throw new TypeError('the secret must be whsec_ and base64')
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest()
  // Several, with a blank between, while the secret is being changed.
  const signatures = (headers['webhook-signature'] ?? '').split(' ')
  const fits = signatures.some((signature) => {
    const [version, mac] = signature.split(',')
    const given = Buffer.from(mac ?? '', 'base64')
    return version === 'v1' && given.length === expected.length && timingSafeEqual(given, expected)
  })
  if (!fits) throw new BadSignature('no signature fits')
  return JSON.parse(body.toString())
}
