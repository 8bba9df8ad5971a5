/** A ChatModelAdapter for assistant-ui. */
import { mainText } from '../fold.js'

/**
 * @param {import('../throughline.js').Throughline} client
 * @param {Record<string, any>} more further members of each message: the `sessionId`, or the `projectId`
 */
export function throughlineAdapter(client, more) {
  return {
    /** @param {{messages: readonly any[], abortSignal: AbortSignal}} asked */
    async *run({ messages, abortSignal }) {
      const message = messages.at(-1).content.map((/** @type {any} */ part) => part.text ?? '').join('')
      const reply = client.chat({ ...more, message })
      abortSignal.addEventListener('abort', () => reply.cancel().catch(() => undefined))
      let shown = ''
      for await (const _ of reply) {
        const text = mainText(reply.state)
        if (text !== shown) yield { content: [{ type: /** @type {const} */ ('text'), text }] }
        shown = text
      }
      const { envelope } = reply.state
      const type = envelope.subtype === 'success' ? 'complete' : 'incomplete'
      const reason = type === 'complete' ? 'stop' : envelope.error ? 'error' : 'cancelled'
      yield { content: [{ type: 'text', text: shown }], status: { type, reason, error: envelope.error?.code }, metadata: { custom: { envelope } } }
    }
  }
}
