// Runs the adapters in the real packages, and clients of other authors, over a network that cuts.
import { AbstractChat } from 'ai'
import { Chat } from '@ai-sdk/react'
import { LocalRuntimeCore } from '@assistant-ui/core/internal'
import { fetchEventSource } from '@microsoft/fetch-event-source'
import { EventSource } from 'eventsource'
import { createParser } from 'eventsource-parser'

const [folder, address, token] = process.argv.slice(2)
const { Throughline } = await import(`${folder}/throughline.js`)
const { ThroughlineChatTransport } = await import(`${folder}/adapters/usechat.js`)
const { throughlineAdapter } = await import(`${folder}/adapters/assistant-ui.js`)
const { TIMES } = await import(`${folder}/wire.js`)
Object.assign(TIMES, { pause: 20, longestPause: 100, patience: 50 })

const client = new Throughline({ url: address, token })
const session = async () => (await client.openSession({ projectId: 'p1', mode: 'plan' })).sessionId
const textOf = message => message.parts.filter(part => part.type === 'text').map(part => part.text).join('')
const found = {}

// The AI SDK ----------------------------------------------------------------------------------------
const id = await session()
const chat = new Chat({ id, transport: new ThroughlineChatTransport(client) })
await chat.sendMessage({ text: 'Good morning' })
found.useChat = { status: chat.status, texts: chat.messages.map(textOf), isChat: chat instanceof AbstractChat }
found.data = chat.lastMessage.parts.find(part => part.type === 'data-reply').data

// Another tab sends a message, and this one picks its reply up.
const other = client.chat({ sessionId: id, message: 'Add a login page' })
await new Promise(resolve => other.addEventListener('state', resolve, { once: true }))
const again = new Chat({ id, transport: new ThroughlineChatTransport(client) })
await again.resumeStream()
found.resumed = [textOf(again.lastMessage), (await other.done).data.summary, again.lastMessage.id, other.messageId]
const idle = new Chat({ id, transport: new ThroughlineChatTransport(client) })
await idle.resumeStream()
found.idle = [idle.status, idle.messages.length]

// assistant-ui --------------------------------------------------------------------------------------
const adapter = throughlineAdapter(client, { projectId: 'p1' })
const runtime = new LocalRuntimeCore({ adapters: { chatModel: adapter } }, undefined)
const thread = runtime.threads.getMainThreadRuntimeCore()
await thread.append({
  role: 'user', content: [{ type: 'text', text: 'Good morning' }], attachments: [], metadata: { custom: {} },
  parentId: null, createdAt: new Date(), runConfig: {}, startRun: true, sourceId: null
})
const answer = thread.messages.at(-1)
found.assistant = [answer.role, answer.status.type, answer.content.map(part => part.text).join('')]
found.custom = answer.metadata.custom.envelope.messageId

// Clients of other authors ----------------------------------------------------------------------------
const message = JSON.stringify({ userId: 'u1', projectId: 'p1', message: 'Good morning' })
const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json', Accept: 'text/event-stream' }
globalThis.window = globalThis
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} }
const posted = []
await fetchEventSource(`${address}/v1/chat-plan`, {
  method: 'POST', body: message, headers: { ...headers, 'Idempotency-Key': 'fetch-event-source' },
  async onopen() {},
  // This client also reports a comment, as a message without a name.
  onmessage(event) { if (event.event) posted.push([event.event, event.data, event.id]) },
  onerror() { return 20 }
})
found.fetchEventSource = posted

const path = `/v1/chat-plan/replies/${JSON.parse(posted[0][1]).messageId}/stream?ticket=${token}`
const alive = setInterval(() => {}, 1_000) // this client lets Node end while it waits
found.eventSource = await new Promise(resolve => {
  const events = []
  const source = new EventSource(address + path)
  for (const name of ['accepted', 'intent', 'tool', 'notice', 'chunk', 'reset', 'final']) {
    source.addEventListener(name, event => events.push([event.type, event.data, event.lastEventId]))
  }
  source.addEventListener('error', () => { if (source.readyState === EventSource.CLOSED) resolve(events) })
})
clearInterval(alive)

const parsed = []
const parser = createParser({ onEvent: event => parsed.push([event.event, event.data, event.id]) })
while (true) {
  const last = parsed.at(-1)?.[2] ?? ''
  const answer = await fetch(`${address}${path}&after=${last}`)
  if (answer.status === 204) break
  parser.reset()
  const decoder = new TextDecoder()
  try {
    for await (const piece of answer.body) parser.feed(decoder.decode(piece, { stream: true }))
  } catch {
    // The connection was cut.
  }
}
found.parser = parsed
console.log(JSON.stringify(found))
