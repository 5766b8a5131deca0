import { setTimeout as sleep } from 'node:timers/promises'

/** smsq refused the message: sending it again would end the same way. */
export class Refused extends Error {}

/** smsq did not answer. It may have the message: send it again later, with the same key. */
export class Unavailable extends Error {}

/** Sends messages through smsq's relay, which takes the SMS gateway's own request. */
export class Relay {
  #secret

  /**
   * @param {object} options
   * @param {string} options.url of `smsq serve`, such as https://sms.internal.example/
   * @param {string} options.secret
   * @param {number} [options.timeoutMs] for one request, connecting included
   * @param {number} [options.tries] requests for one message, at most
   * @param {number} [options.waitMs] before the second request; doubled before each further one
   */
  constructor({ url, secret, timeoutMs = 5000, tries = 4, waitMs = 500 }) {
    Object.assign(this, { url, timeoutMs, tries, waitMs })
    this.#secret = secret
  }

  /**
   * Send one message; return its id. Throws Refused or Unavailable.
   *
   * `key` names this message for 24 hours, such as "login-7781": however often it is sent with the
   * same key, one SMS goes out. That makes a retry harmless, so it must not be made anew for each
   * request.
   */
  async send({ phone, template, code, key, lane = 'otp' }) {
    if (!key) throw new TypeError('key is missing')
    const form = new URLSearchParams({
      module: 'sms', file: 'send', action: 'send',
      mobphone: phone, smstemplate: template, code, key, lane
    })
    for (let n = 1; ; n++) {
      const { status, answer, retryAfterS, why } = await this.#post(form)
      if (answer) {
        // The result is `code`, as with the gateway. A wrong secret is a refusal, too.
        if (answer.code === 200) return answer.mid
        throw new Refused(answer.msg)
      }
      if (status >= 400 && status < 500 && ![408, 429].includes(status)) throw new Refused(why)
      if (n >= this.tries) throw new Unavailable(why)
      // At random, so that many clients do not come back at the same moment.
      const waitMs = this.waitMs * 2 ** (n - 1) * (0.5 + Math.random())
      await sleep(Math.max(waitMs, retryAfterS * 1000))
    }
  }

  async #post(form) {
    try {
      const response = await fetch(this.url, {
        method: 'POST',
        body: form,
        headers: { Authorization: this.#secret }, // alone, without "Bearer"
        redirect: 'error', // or the secret would go there, too
        signal: AbortSignal.timeout(this.timeoutMs)
      })
      const text = await response.text()
      const { status, ok } = response
      const retryAfterS = Math.min(Number(response.headers.get('retry-after')) || 0, 600)
      return { status, answer: ok ? JSON.parse(text) : null, retryAfterS, why: `HTTP ${status}` }
    } catch (error) {
      // No answer, or not the whole of one. Its text may hold the URL, and no more.
      return { status: 0, answer: null, retryAfterS: 0, why: error.cause?.code ?? error.name }
    }
  }
}
