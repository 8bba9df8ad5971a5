/** A ChatTransport for `useChat` of the AI SDK. The id of a chat is the id of a session. */
import { mainText } from '../fold.js'

export class ThroughlineChatTransport {
  resumeStreamIsReplay = true // a stream that is read again begins with the beginning of its reply

  /** @param {import('../throughline.js').Throughline} client @param {Record<string, any>} [more] further members of each message, such as `locale` */
  constructor(client, more = {}) {
    this.client = client
    this.more = more
  }

  /** @param {{chatId: string, messages: any[], abortSignal?: AbortSignal | undefined, body?: object | undefined}} asked */
  async sendMessages({ chatId, messages, abortSignal, body }) {
    const message = messages.at(-1).parts.map((/** @type {any} */ part) => part.text ?? '').join('')
    return chunks(this.client.chat({ ...this.more, ...body, sessionId: chatId, message }), abortSignal)
  }

  /** @param {{chatId: string, abortSignal?: AbortSignal | undefined}} asked */
  async reconnectToStream({ chatId, abortSignal }) {
    const feed = this.client.follow({ sessionId: chatId }, { history: 1 })
    try {
      for (await feed.ready; ; await new Promise(resolve => feed.addEventListener('state', resolve, { once: true }))) {
        const last = feed.state.items.at(-1)
        if (last?.kind !== 'user_message' || last.source) return null
        const [messageId] = Object.keys(feed.state.replies)
        if (messageId) return chunks(this.client.join(messageId), abortSignal)
      }
    } finally {
      feed.close()
    }
  }
}

/** @param {import('../reply.js').Reply} reply @param {AbortSignal | undefined} abortSignal @returns {ReadableStream<any>} */
function chunks(reply, abortSignal) {
  abortSignal?.addEventListener('abort', () => reply.cancel().catch(() => undefined))
  return new ReadableStream({
    async start(controller) {
      let [shown, part, isOpen, hasBegun] = ['', 0, false, false]
      const say = (/** @type {string} */ type, /** @type {object} */ more = {}) => controller.enqueue({ type, ...more })
      const close = () => { if (isOpen) say('text-end', { id: `${part}` }); isOpen = false }
      reply.addEventListener('state', () => {
        if (!hasBegun && reply.messageId) hasBegun = (say('start', { messageId: reply.messageId }), true)
        const text = mainText(reply.state)
        if (!text.startsWith(shown)) close() // taken back: the text begins again in another part
        if (!isOpen && text) say('text-start', { id: `${++part}` })
        if (text && text !== shown) say('text-delta', { id: `${part}`, delta: text.slice(isOpen ? shown.length : 0) })
        isOpen ||= text !== ''
        shown = text
      })
      const end = await reply.done.catch(error => ({ error }))
      close()
      say(end.error ? 'error' : 'data-reply', end.error ? { errorText: end.error.code } : { id: 'reply', data: end })
      say('finish')
      controller.close()
    }
  })
}
