/**
 * The elements, each alone in all its states, without a server.
 *
 * `?locale=ar` and `?theme=dark` choose how, `?only=throughline-plan` which.
 */

import '../elements/build.js'
import '../elements/event-log.js'
import '../elements/plan.js'
import '../elements/prompt-diff.js'
import '../elements/run.js'
import '../elements/usage.js'
import { h } from '../elements/parts/dom.js'
import { LOCALES, LOCALE_NAMES, useLocale } from '../texts.js'

const ago = (/** @type {number} */ seconds) => new Date(Date.now() - seconds * 1000).toISOString()
const day = (/** @type {number} */ days) => ago(days * 86_400)

const ACTIONS = [
  { type: 'convert_to_build', label: 'Build this', payload: {} }, { type: 'save_plan', label: 'Save plan', payload: {} },
  { type: 'share', label: 'Share', payload: {} }, { type: 'export', label: 'Export', payload: {} },
]

const FEATURE = {
  summary: 'Start with the data, then the behaviour, then the page: each step can be **tried alone**.',
  feasibility: 'moderate',
  plan: {
    overview: 'People sign in with their address and a password. Sessions live in a table, so a restart keeps them.',
    steps: [
      { order: 1, title: 'Model the data', description: 'A table `user` with the address, and the digest of the password.', files: ['src/models.py', 'migrations/0007_users.sql'], newFiles: ['migrations/0007_users.sql'], estimatedEffort: 'low' },
      { order: 2, title: 'Add the behaviour', description: 'Two calls:\n\n- `POST /login`\n- `POST /logout`', files: ['src/routes.py', 'src/sessions.py'], newFiles: ['src/sessions.py'], estimatedEffort: 'medium' },
      { order: 3, title: 'Show the page', description: 'A form with two fields. Errors are shown beside the field.', files: ['templates/login.html'], newFiles: ['templates/login.html'], estimatedEffort: 'low' },
      { order: 4, title: 'Limit the attempts', description: 'Five in a minute for each address.', files: ['src/limits.py'], estimatedEffort: 'high' },
    ],
    dependencies: [{ name: 'argon2-cffi', version: '25.1.0', reason: 'Digests of passwords that are slow on purpose.' }],
    risks: ['Old links to `/account` need a redirect.'],
    alternatives: ['Sign-in by a link in a mail, without passwords.'],
  },
  buildPrompt: 'Add a login page with sessions in the database.',
}

const FIX = {
  issue: { description: 'The cart takes *eight seconds* with more than fifty items.', severity: 'high', category: 'performance' },
  rootCause: 'Each item asks the database for its price: one query an item.',
  solution: {
    approach: 'Read all prices with one query.',
    changes: [
      { file: 'src/cart.py', changeType: 'modify', description: 'Read prices by a list of ids.' },
      { file: 'src/prices.py', changeType: 'create', description: 'The query, in one place.' },
      { file: 'src/old_cart.py', changeType: 'delete', description: 'Nobody calls it.' },
    ],
    testingStrategy: 'A test counts the queries of a cart with fifty items.',
  },
  preventionTips: ['Count the queries of a page in its test.'],
}

const QUESTION = {
  answer: 'Orders are shipped from `ship.py`:\n\n1. An order is *paid*.\n2. A label is printed.\n   - one for each parcel\n   - with the weight\n\n| country | days |\n|---|--:|\n| France | 2 |\n| Egypt | 6 |\n\n```python\ndef ship(order: Order) -> Label:\n    return printer.label(order.address)\n```\n\n> A parcel above 30 kg goes by freight.\n\nSee [the rules](https://example.com/rules) and https://example.com/prices.',
  references: [{ file: 'src/ship.py', line: 12, snippet: 'def ship(order: Order) -> Label:' }, { file: 'src/printer.py', line: 3, snippet: 'class Printer:' }],
  relatedTopics: ['Returns', 'Weights of parcels'],
}

const ANALYSIS = {
  overview: 'Most people buy tea, and they buy it in the evening.',
  findings: [
    { category: 'sales', title: 'Evenings are busy', description: 'Two thirds of all orders come after six.', impact: 'The service is slow then.', recommendations: ['Move the reports to the night.'] },
    { category: 'search', title: 'Short queries find little', description: 'One word is not enough for the present index.' },
  ],
  metrics: [{ name: 'Orders a day', value: 412 }, { name: 'Share of tea', value: '61 %' }],
  visualizations: [
    { type: 'chart', title: 'Orders by product', labels: ['Green tea', 'Black tea', 'Teapots', 'Cups'], values: [120, 92, 31, 12] },
    { type: 'graph', title: 'Orders by hour', labels: ['8', '10', '12', '14', '16', '18', '20', '22'], values: [4, 9, 22, 18, 25, 61, 74, 30] },
    { type: 'table', title: 'Returns by month', labels: ['September', 'October', 'November'], values: [14, 11, 9.5] },
  ],
}

const ARABIC = {
  summary: 'نبدأ بالبيانات ثم السلوك ثم الصفحة، ويمكن تجربة كل خطوة وحدها في `src/models.py`.',
  feasibility: 'simple',
  plan: { overview: 'يسجّل المستخدم دخوله بعنوانه وكلمة المرور.', steps: [{ order: 1, title: 'نموذج البيانات', description: 'جدول للمستخدمين.', files: ['src/models.py'], estimatedEffort: 'low' }], dependencies: [], risks: [] },
}

const EVENTS = [
  ['queue', 'completed', 'Claimed by worker-1'], ['setup', 'completed', 'The workspace is ready'], ['development', 'started', 'Begin with the models'],
  ['development', 'progress', 'Wrote src/models.py'], ['development', 'progress', 'Wrote src/routes.py: 2 calls'],
].map(([phase, type, title], index) => ({ eventId: String(index), phase, type, title, userVisible: true, at: ago(60 - index * 10) }))

const BUILD = { buildId: '01a1fbe5-b79a-75b0-8610-87f0fd4a834b', userId: 'ada', projectId: 'shop', status: 'running', phase: 'development', title: 'Wrote src/routes.py: 2 calls', queuedAt: ago(75), claimedAt: ago(72), events: EVENTS }
const RUN = { runId: '01a1fbe5-c79a', projectId: 'shop', userId: 'ada', title: 'Compare two search prompts', status: 'running', progress: 'Try the short prompt', findings: [], stepCount: 1, candidateCount: 2, queuedAt: ago(40), claimedAt: ago(38) }
const STEPS = [
  { stepId: 'short', title: 'Try the short prompt', prompt: 'Find {{thing}}.', output: '3 of 4 queries found.', at: ago(30) },
  { stepId: 'long', title: 'Try the long prompt', prompt: 'Find {{thing}}, also in other words for it.', output: '4 of 4 queries found.\nIt took twice as long.', at: ago(20) },
]
const CANDIDATES = [
  { candidateId: 'short', title: 'The short prompt', scores: { found: 0.75, speed: 0.9 }, at: ago(30) },
  { candidateId: 'long', title: 'The long prompt', scores: { found: 0.95, speed: 0.4 }, data: { words: 120 }, at: ago(20) },
  { candidateId: 'none', title: 'Without a prompt', scores: { found: 0.2 }, at: ago(10) },
]

const LEDGER = [[0.02, 'plan_feature', 31, 0.0213], [0.05, 'plan_question', 4, 0.0041], [0.9, 'update', 212, 0], [1.2, 'plan_fix', 22, 0.0154], [2.1, 'plan_question', 3, 0.0032], [4.4, 'plan_analysis', 71, 0.0622], [5.3, 'idea_consultation', 9, 0.0061]]
  .map(([days = 0, operationType, billedSeconds = 0, costUsd], index) => ({
    cursor: `${900 - index * 31}.4907f9c4`, projectId: 'shop', sessionId: 's', messageId: String(index), operationType, billedSeconds, inputTokens: 4000, outputTokens: Number(billedSeconds) * 40,
    costUsd: costUsd ? String(costUsd) : undefined, prices: '2026-01', model: 'claude', timestamp: day(Number(days)),
  }))
const BALANCE = { userId: 'ada', creditedSeconds: 3600, bonusSeconds: 600, consumedSeconds: 352, reservedSeconds: 420, availableSeconds: 2828 }
const FIGURES = { seconds: 352, costUsd: '0.1123', replies: { replies: 31, errorRate: 0.032, p50Ms: 8200 }, byMode: { question: { replies: 14 }, feature: { replies: 9 }, fix: { replies: 6 }, analysis: { replies: 2 } } }

const OPS = [
  { op: 'equal', text: 'Write a ' }, { op: 'insert', text: 'short ' }, { op: 'equal', text: 'slogan for ' }, { op: 'delete', text: '{{product}}.' },
  { op: 'insert', text: '{{product}} in {{language}}.\n\nName the taste first. Use at most eight words.' },
]

const LOG = [
  { position: '1201', type: 'UserMessagePosted', actor: 'ada', subject: 'session-1', time: ago(95), data: { text: 'Add a login page', locale: 'en' } },
  { position: '1202', type: 'ReplyStarted', actor: 'ada', subject: 'session-1', time: ago(95), data: { message_id: 'm-1' } },
  { position: '1203', type: 'TimeConsumed', actor: 'service', subject: 'account-ada', time: ago(61), data: { seconds: 31 } },
  { position: '1204', type: 'ReplyCompleted', actor: 'service', subject: 'session-1', time: ago(61), data: { mode: 'feature', subtype: 'success' } },
]
const ITEMS = [
  { id: 'a', cursor: '1201.4907f9c4', timestamp: ago(95), type: 'plan_message', kind: 'user_message', userId: 'ada', userMessage: { text: 'Add a login page' } },
  { id: 'b', cursor: '1204.4907f9c4', timestamp: ago(61), type: 'plan_message', kind: 'reply', inReplyTo: 'a', aiResponse: { subtype: 'success' } },
]

/** @type {Record<string, Record<string, Record<string, unknown>>>} */
export const STATES = {
  'throughline-plan': {
    'nothing written yet': { status: 'streaming' },
    'a summary, half written': { status: 'streaming', data: { summary: 'Start with the data, then the beha' } },
    'a step, half written': { status: 'streaming', data: { ...FEATURE, buildPrompt: undefined, plan: { overview: FEATURE.plan.overview, steps: [FEATURE.plan.steps[0], { order: 2, title: 'Add the beha' }] } } },
    'a whole plan': { status: 'final', data: FEATURE, actions: ACTIONS, locale: 'en' },
    'a plan that cannot be built now': { status: 'final', data: { ...FEATURE, plan: { ...FEATURE.plan, steps: FEATURE.plan.steps.slice(0, 1) } }, actions: ACTIONS.map(each => ({ ...each, enabled: each.type !== 'convert_to_build' })) },
    'a plan, cut off': { status: 'partial', data: { summary: FEATURE.summary, feasibility: 'moderate' }, reason: 'Your AI time is used up. Add more to go on.' },
    'a reply that failed': { status: 'error', reason: 'The model is very busy right now. Please try again in a moment.' },
    'a plan in Arabic': { status: 'final', data: ARABIC, locale: 'ar', actions: ACTIONS },
    'a fix': { status: 'final', data: FIX, actions: ACTIONS },
    'an answer': { status: 'final', data: QUESTION },
    'an analysis': { status: 'final', data: ANALYSIS },
    'a general reply': { status: 'final', data: { markdown: '# Hello\n\nI can *plan*, **build** and ~~forget~~ remember.\n\n- [x] plans\n- [ ] builds\n\n---\n\n![a picture](https://example.com/a.png)' } },
    'an improvement': { status: 'final', data: { analysis: 'The prompt does not name the **language**.', improvedPrompt: 'Write a short slogan for {{product}} in {{language}}.', changes: ['A placeholder for the language', 'A bound of eight words'] } },
  },
  'throughline-prompt-diff': {
    'no versions': { ops: [] },
    'the same': { ops: [{ op: 'equal', text: 'Write a slogan for {{product}}.' }], number: 3 },
    'changes that become a version': { ops: OPS, number: 3 },
    'changes to read': { ops: OPS },
  },
  'throughline-usage': {
    'nothing billed': { balance: { creditedSeconds: 600, consumedSeconds: 0, reservedSeconds: 0, availableSeconds: 600 }, ledger: { items: [] } },
    'balance, bill and figures': { balance: BALANCE, ledger: { items: LEDGER }, figures: FIGURES },
    'no seconds left': { balance: { creditedSeconds: 600, consumedSeconds: 540, reservedSeconds: 60, availableSeconds: 0 } },
  },
  'throughline-build': {
    'queued just now': { build: { ...BUILD, status: 'queued', phase: undefined, title: undefined, queuedAt: ago(2), claimedAt: undefined, events: [] } },
    'queued for long': { build: { ...BUILD, status: 'queued', phase: undefined, title: undefined, queuedAt: ago(40), claimedAt: undefined, events: [] } },
    'running': { build: BUILD },
    'done': { build: { ...BUILD, status: 'succeeded', phase: 'deploy', versionId: 'v7', previewUrl: 'https://example.com/preview', artifactUrl: 'https://example.com/a.zip', endedAt: ago(4), duration: 68_000 } },
    'failed': { build: { ...BUILD, status: 'failed', phase: 'dependencies', code: 'failed', error: 'pip: no version of argon2-cffi for this Python\nFile "build.py", line 12\nFile "pip.py", line 80', endedAt: ago(4), duration: 68_000 } },
    'cancelled': { build: { ...BUILD, status: 'failed', code: 'cancelled', endedAt: ago(4), duration: 12_000 } },
    'timed out': { build: { ...BUILD, status: 'failed', code: 'timed_out', endedAt: ago(4), duration: 1_812_000 } },
  },
  'throughline-run': {
    'queued': { run: { ...RUN, status: 'queued', progress: undefined, claimedAt: undefined }, steps: [], candidates: [] },
    'running': { run: RUN, steps: STEPS.slice(0, 1), candidates: CANDIDATES.slice(0, 1) },
    'done': { run: { ...RUN, status: 'succeeded', summary: 'The long prompt finds more and is slower.', findings: ['Short queries need the long prompt.'], seconds: 3, tokens: 900, endedAt: ago(2), duration: 36_000 }, steps: STEPS, candidates: CANDIDATES },
    'failed': { run: { ...RUN, status: 'failed', code: 'failed', error: 'The engine has no key for the index.', endedAt: ago(2), duration: 36_000 }, steps: STEPS, candidates: [] },
    'cancelled': { run: { ...RUN, status: 'failed', code: 'cancelled', endedAt: ago(2), duration: 9_000 }, steps: [], candidates: [] },
    'timed out': { run: { ...RUN, status: 'failed', code: 'timed_out', endedAt: ago(2), duration: 1_900_000 }, steps: [], candidates: [] },
  },
  'throughline-event-log': {
    'no events': { events: [] },
    'events of the log': { events: LOG },
    'items of a timeline': { events: ITEMS },
  },
}

/**
 * An element in a state.
 * @param {string} tag @param {Record<string, unknown>} state
 */
export const shown = (tag, state) => h(tag, Object.fromEntries(Object.entries(state).map(([name, value]) => [`.${name}`, value])))

const query = new URLSearchParams(location.search)
const leading = (/** @type {string} */ name, /** @type {string} */ value) => `?${new URLSearchParams({ ...Object.fromEntries(query), [name]: value })}`

async function begin() {
  await useLocale(query.get('locale') ?? 'en')
  document.documentElement.dataset.theme = query.get('theme') ?? ''
  const only = query.get('only')
  document.body.replaceChildren(
    h('main', null, h('h1', null, 'Elements'),
      h('nav', { 'aria-label': 'Languages and themes' },
        LOCALES.map(each => h('a', { href: leading('locale', each), lang: each }, LOCALE_NAMES[/** @type {'en'} */ (each)])),
        ['light', 'dark'].map(each => h('a', { href: leading('theme', each) }, each))),
      Object.entries(STATES).filter(([tag]) => !only || tag === only).map(([tag, states]) => h('section', { id: tag }, h('h2', null, `<${tag}>`),
        Object.entries(states).map(([name, state]) => h('article', { 'aria-label': `${tag}: ${name}` }, h('h3', { dir: 'ltr' }, name), shown(tag, state)))))))
  document.body.dataset.ready = 'true'
}

begin()
