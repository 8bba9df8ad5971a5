/** `<throughline-plan>`: a reply by its contract, whole or half written. */

import { chart, chartSheet } from './parts/charts.js'
import { h, sheet } from './parts/dom.js'
import { ThroughlineElement, define, part } from './parts/element.js'
import { icon } from './parts/icons.js'
import { GrowingMarkdown, phrase } from './parts/markdown.js'
import { badge, button, codeBlock, copying, fact, list, path, shortened, text } from './parts/small.js'
import { dirOf, t, word } from '../texts.js'

/** @typedef {import('./parts/dom.js').Child} Child */

/** What the page does at each action: the event, the icon, and how much it stands out. */
const ACTIONS = /** @type {Record<string, [string, string, string]>} */ ({
  convert_to_build: ['build', 'build', 'main'], save_plan: ['save', 'save', ''], export: ['export', 'download', ''], share: ['share', 'share', ''],
})
const ICONS = /** @type {Record<string, string>} */ ({ question: 'help', feature: 'plan', fix: 'build', analysis: 'analysis', general: 'info', improvement: 'idea' })
const SIGNS = /** @type {Record<string, string>} */ ({
  answer: 'question', summary: 'feature', feasibility: 'feature', plan: 'feature', issue: 'fix', rootCause: 'fix', solution: 'fix',
  overview: 'analysis', findings: 'analysis', markdown: 'general', analysis: 'improvement', improvedPrompt: 'improvement',
})
const CHANGES = /** @type {Record<string, string>} */ ({ create: 'plus', delete: 'trash' })
const TONES = /** @type {Record<string, string>} */ ({ low: 'plain', simple: 'good', medium: 'plain', moderate: 'plain', high: 'warn', complex: 'warn', critical: 'bad', delete: 'bad', create: 'good' })

export class Plan extends ThroughlineElement {
  static sheets = [chartSheet, sheet(`
article { display: grid; grid-template-columns: minmax(0, 1fr); gap: 16px; } header { min-block-size: 28px; } .steps { display: grid; gap: 8px; counter-reset: step; }
.step { display: grid; grid-template-columns: 28px minmax(0, 1fr); gap: 0 4px; min-block-size: 80px; align-content: start; } .step + .step { border-block-start: 1px solid var(--line); padding-block-start: 8px; }
.step > * { grid-column: 2; } .step::before { counter-increment: step; content: counter(step); grid-column: 1; grid-row: 1; color: var(--muted); font-variant-numeric: tabular-nums; }
.title { font-weight: 600; min-block-size: 24px; } .files { display: flex; flex-wrap: wrap; gap: 4px 12px; padding-block-start: 4px; } .files li { display: flex; gap: 4px; align-items: center; }
[aria-busy=true] .live:not(:has(> *))::after, [aria-busy=true] .live > :last-child::after, .waiting::after { content: "▍"; color: var(--accent); animation: blink 1s steps(2) infinite; } @keyframes blink { 50% { opacity: .2; } }
.bordered > li + li { border-block-start: 1px solid var(--line); padding-block-start: 8px; margin-block-start: 8px; }
`)]
  /** @type {Map<string, GrowingMarkdown>} */
  #texts = new Map()

  render() {
    const data = Object(this.values.data)
    const mode = this.values.mode ?? Object.keys(data).map(name => SIGNS[name]).find(Boolean) ?? ''
    const show = Object.hasOwn(CONTRACTS, mode) ? CONTRACTS[mode] : null
    const isBusy = this.values.status === 'streaming'
    return h('article', { 'aria-busy': String(isBusy), dir: this.values.locale ? dirOf(this.values.locale) : null },
      (show || isBusy) && h('header', { class: 'row', key: 'head' }, badge('accent', ICONS[mode] ?? 'more', t(`plan_kind_${show ? mode : 'unknown'}`)), show && facts(mode, data)),
      show ? show(this, data) : isBusy && h('p', { class: 'muted waiting', dir: 'auto' }, t('plan_writing')),
      this.#end())
  }

  /** Why the reply ended early, and what can be done with the reply. */
  #end() {
    const { status, reason, actions } = this.values
    const cut = status === 'partial' || status === 'error'
    const offered = list(actions).filter(each => Object.hasOwn(ACTIONS, each.type))
    return [
      cut && h('p', { class: `note ${status === 'error' ? 'bad' : 'warn'}`, key: 'cut', role: 'note', dir: 'auto' }, icon('alert'), ' ', text(reason) || t('plan_partial')),
      (cut || offered.length > 0) && h('div', { class: 'row', key: 'actions' },
        offered.map(each => this.#action(each)), cut && button('again', t('action_again'), () => this.tell('again'))),
    ]
  }

  /** @param {{ type: string, label?: string, enabled?: boolean, payload?: unknown }} action */
  #action(action) {
    const [event, name, kind] = ACTIONS[action.type] ?? ['', '', '']
    const made = button(name, t(`action_${action.type}`), () => this.tell(event, action), kind)
    made.toggleAttribute('disabled', action.enabled === false)
    return made
  }

  /**
   * Prose in Markdown, which may grow.
   * @param {string} key @param {unknown} value @param {boolean} [isLast] whether the reply is being written here
   */
  prose(key, value, isLast) {
    if (!text(value)) return null
    let known = this.#texts.get(key)
    if (!known) this.#texts.set(key, (known = new GrowingMarkdown({ level: 3 })))
    known.update(text(value))
    known.node.className = isLast ? 'markdown live' : 'markdown'
    const { locale } = this.values
    known.node.lang = text(locale)
    known.node.dir = locale ? dirOf(locale) : 'auto'
    return known.node
  }
}

/** @param {string} mode @param {any} data @returns {Child} */
function facts(mode, data) {
  if (mode === 'feature') {
    const plan = Object(data.plan)
    const files = new Set(list(plan.steps).slice(0, 200).flatMap(step => list(Object(step).files)))
    return [data.feasibility && badge(TONES[data.feasibility] ?? 'plain', 'info', word('feasibility', data.feasibility)),
      counts([['plan_steps_count', list(plan.steps).length], ['plan_files', files.size], ['plan_packages', list(plan.dependencies).length], ['plan_risks_count', list(plan.risks).length]])]
  }
  const { severity, category } = Object(data.issue)
  if (mode !== 'fix') return null
  return [severity && badge(TONES[severity] ?? 'plain', 'alert', t('plan_severity', { severity: word('severity', severity) })), category && h('span', { class: 'muted small', dir: 'auto' }, phrase(category))]
}

/** @param {[string, number][]} all */
const counts = all => h('span', { class: 'muted small' }, all.filter(([, count]) => count).map(([key, count]) => t(key, { count })).join(' · '))

/** @param {Plan} host @param {string} key @param {unknown} items */
const points = (host, key, items) => list(items).length > 0 && h('ul', { dir: 'auto' }, host.some(key, list(items), each => h('li', null, phrase(text(each))), 50, more => h('li', { key: 'more' }, more)))

/** How each contract is shown. The order is that of its members, so what comes later stands below.
 * @type {Record<string, (host: Plan, data: any) => Child>} */
const CONTRACTS = {
  question: (host, data) => [host.prose('answer', data.answer, true), part(t('plan_references'), references(host, data.references)), part(t('plan_topics'), points(host, 'topics', data.relatedTopics))],
  feature: (host, data) => {
    const plan = Object(data.plan)
    return [host.prose('summary', data.summary, !data.plan), host.prose('overview', plan.overview, !plan.steps),
      part(t('plan_steps'), steps(host, plan.steps, !plan.dependencies)),
      part(t('plan_dependencies'), packages(host, plan.dependencies)),
      part(t('plan_risks'), points(host, 'risks', plan.risks)),
      part(t('plan_alternatives'), points(host, 'alternatives', plan.alternatives)), order(data.buildPrompt)]
  },
  fix: (host, data) => {
    const solution = Object(data.solution)
    return [host.prose('issue', Object(data.issue).description, !data.rootCause), part(t('plan_root_cause'), host.prose('cause', data.rootCause, !data.solution)),
      part(t('plan_solution'), host.prose('approach', solution.approach, !solution.changes)),
      part(t('plan_changes'), changes(host, solution.changes)), part(t('plan_testing'), host.prose('testing', solution.testingStrategy)),
      part(t('plan_prevention'), points(host, 'prevention', data.preventionTips)), order(data.buildPrompt)]
  },
  analysis: (host, data) => [host.prose('overview', data.overview, !data.findings), part(t('plan_findings'), findings(host, data.findings)),
    part(t('plan_metrics'), metrics(host, data.metrics)), part(t('plan_charts'), host.some('charts', list(data.visualizations), (each, index) => drawn(host, Object(each), index), 10))],
  general: (host, data) => host.prose('markdown', data.markdown, true),
  improvement: (host, data) => [host.prose('analysis', data.analysis, !data.improvedPrompt),
    data.improvedPrompt && part(t('plan_improved'), h('div', { class: 'card stack' }, h('div', { class: 'text live', dir: 'auto' }, shortened(text(data.improvedPrompt))), h('div', null, copying(text(data.improvedPrompt))))),
    part(t('plan_what_changed'), points(host, 'changes', data.changes))],
}

/** @param {Plan} host @param {unknown} all @param {boolean} isLast */
const steps = (host, all, isLast) => list(all).length > 0 && h('ol', { class: 'plain steps' }, host.some('steps', list(all).map(Object), (step, index) => h('li', { class: 'step', key: `step ${index}` },
  h('div', { class: 'row between' }, h('span', { class: 'title', dir: 'auto' }, phrase(text(step.title))), step.estimatedEffort && effort(step.estimatedEffort)),
  host.prose(`step ${index}`, step.description, isLast && index === list(all).length - 1), files(host, index, step)), 50, more => h('li', { key: 'more' }, more)))

/** @param {unknown} value */
const effort = value => badge(TONES[text(value)] ?? 'plain', 'usage', t('effort', { effort: word('effort', value) }))

/** @param {Plan} host @param {number} index @param {any} step */
const files = (host, index, step) => list(step.files).length > 0 && h('ul', { class: 'plain files' }, host.some(`files ${index}`, list(step.files), file => h('li', null,
  icon('file'), path(file), list(step.newFiles).includes(file) && badge('good', 'plus', t('plan_new_file'))), 20, more => h('li', { key: 'more' }, more)))

/** @param {Plan} host @param {unknown} all */
const packages = (host, all) => list(all).length > 0 && h('ul', { class: 'plain stack' }, host.some('packages', list(all).map(Object), each => h('li', null,
  h('div', { class: 'row' }, icon('package'), path(each.name), each.version && h('bdi', { class: 'muted small', dir: 'ltr' }, text(each.version))), h('div', { dir: 'auto' }, phrase(text(each.reason)))), 50, more => h('li', { key: 'more' }, more)))

/** @param {Plan} host @param {unknown} all */
const changes = (host, all) => list(all).length > 0 && h('ul', { class: 'plain bordered' }, host.some('file changes', list(all).map(Object), each => h('li', null,
  h('div', { class: 'row' }, icon('file'), path(each.file), each.changeType && badge(TONES[each.changeType] ?? 'plain', CHANGES[each.changeType] ?? 'edit', word('change', each.changeType))), h('div', { dir: 'auto' }, phrase(text(each.description)))), 50, more => h('li', { key: 'more' }, more)))

/** @param {Plan} host @param {unknown} all */
const references = (host, all) => list(all).length > 0 && h('ul', { class: 'plain stack' }, host.some('references', list(all).map(Object), each => h('li', null, h('details', null,
  h('summary', null, path(each.line === undefined ? each.file : `${text(each.file)}:${text(each.line)}`)), text(each.snippet) && codeBlock(text(each.snippet)))), 20, more => h('li', { key: 'more' }, more)))

/** @param {Plan} host @param {unknown} all */
const findings = (host, all) => list(all).length > 0 && h('ul', { class: 'plain bordered' }, host.some('findings', list(all).map(Object), (each, index) => h('li', { class: 'stack', key: `finding ${index}` },
  h('div', { class: 'row' }, h('span', { class: 'title', dir: 'auto' }, phrase(text(each.title))), each.category && h('span', { class: 'badge', dir: 'auto' }, phrase(text(each.category)))),
  host.prose(`finding ${index}`, each.description), text(each.impact) && h('p', { class: 'muted', dir: 'auto' }, t('plan_impact', { impact: text(each.impact) })),
  list(each.recommendations).length > 0 && h('div', null, h('span', { class: 'small muted' }, t('plan_recommendations')), points(host, `recommendations ${index}`, each.recommendations))), 50, more => h('li', { key: 'more' }, more)))

/** @param {Plan} host @param {unknown} all */
const metrics = (host, all) => list(all).length > 0 && h('dl', { class: 'facts' }, host.some('metrics', list(all).map(Object), each => fact(phrase(text(each.name)), phrase(text(each.value))), 50))

/** @param {Plan} host @param {any} each @param {number} index */
const drawn = (host, { title, labels, values, type }, index) => chart(host, `chart ${index}`, {
  title: text(title), labels: list(labels), values: list(values), form: type === 'graph' ? 'line' : type === 'table' ? 'table' : 'bars',
})

/** @param {unknown} prompt */
const order = prompt => text(prompt) && h('details', { key: 'order' }, h('summary', { class: 'muted small' }, t('plan_build_prompt')), h('div', { class: 'note text', dir: 'auto' }, shortened(text(prompt))))

define('throughline-plan', Plan, ['data', 'mode', 'locale', 'actions', 'status', 'reason'])
