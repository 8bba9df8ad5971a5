/** What a person can do with a row of a conversation. Loaded when a person does it for the first time. */

import { toast } from '../controls/toast.js'
import { locale, t } from '../texts.js'
import { saved } from './files.js'

/** @typedef {import('./rows.js').Row} Row */
/**
 * @typedef {object} Room the conversation of the row
 * @property {import('../throughline.js').Throughline} client
 * @property {string | null} projectId
 * @property {string} sessionId
 * @property {Record<string, any> | null} session
 * @property {(session: Record<string, any>) => void} adopt go on in another session
 * @property {(panel: string) => void} open show something beside
 * @property {() => void} ordered a build was ordered
 */

/** The modes that a fork keeps. */
const KEPT = new Set(['idea', 'prompt', 'run_feedback'])

/** @type {Record<string, (row: Row, room: Room, detail?: any) => any>} */
export const ACTIONS = {
  async copy({ key, item }, { client }) {
    await navigator.clipboard.writeText(item?.['userMessage']?.text ?? (await client.exportReply(key, { format: 'markdown', locale: locale() })))
    toast(t('action_copied'))
  },
  async fork({ key }, { client, sessionId, session, adopt }) {
    adopt(await client.fork(sessionId, key, KEPT.has(session?.['mode']) ? { mode: session?.['mode'] } : {}))
  },
  async build({ item }, { client, projectId, sessionId, ordered }) {
    await client.convert({ projectId, sessionId: item?.['sessionId'] ?? sessionId, planData: item?.['aiResponse']?.data, locale: locale() })
    ordered()
  },
  async 'build-again'({ item }, { client, projectId, sessionId }) {
    const build = await client.build(item?.['build']?.buildId)
    if (build.plan) await client.convert({ projectId, sessionId: build.convertedFromSessionId ?? sessionId, planData: build.plan, locale: locale() })
    else await client.orderBuild({ projectId, message: build.prompt, locale: locale() })
  },
  'cancel-build': ({ item }, { client }) => client.cancelBuild(item?.['build']?.buildId),
  async save({ key }, { client }) {
    await client.save(key)
    toast(t('plan_saved'))
  },
  async share({ key }, { client }) {
    const { url } = await client.share(key)
    await navigator.clipboard.writeText(new URL(url, new URL(client.url, location.href)).href)
    toast(t('plan_shared'))
  },
  async export({ key }, { client, session }, format) {
    saved(await client.exportReply(key, { format, locale: locale() }), `${session?.['name'] ?? key}.${format === 'json' ? 'json' : 'md'}`)
  },
  /** Make an improved prompt a version: of the prompt that the session is about, else of a new one. */
  async accept({ key }, { client, session, open }) {
    const isOfPrompt = session?.['context']?.promptId || session?.['context']?.promptVersionId
    const { promptId, version } = await client.accept(key, isOfPrompt ? {} : { name: String(session?.['name'] ?? t('prompt')).slice(0, 200) })
    toast(t('message_accepted', { number: version.number }))
    open(`prompt:${promptId}`)
  },
}
