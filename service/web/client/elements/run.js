/** `<throughline-run>`: a run with its steps and its candidates. */

import { TimedElement, failure, statusBadge } from './build.js'
import { h, sheet } from './parts/dom.js'
import { define, part } from './parts/element.js'
import { icon } from './parts/icons.js'
import { button, list, path, plain, shortened, text, time } from './parts/small.js'
import { duration, number, t } from '../texts.js'

/** @typedef {import('./parts/dom.js').Child} Child */

const MOST_SCORES = 20

export class Run extends TimedElement {
  static sheets = [sheet(`
.step summary { display: flex; gap: 8px; } .step summary > :nth-child(2) { flex: 1; } .step { padding-block: 6px; border-block-end: 1px solid var(--line); } .step .stack { padding-block-start: 8px; } .best { font-weight: 700; color: var(--good); } td .icon { margin-inline-end: 4px; } td button { min-block-size: 24px; }
`)]

  render() {
    const run = Object(this.values.run)
    const steps = list(this.values.steps).map(Object)
    const candidates = list(this.values.candidates).map(Object)
    const isOpen = run.status === 'queued' || run.status === 'running'
    const ms = this.passed(run)
    return h('section', { role: 'group', 'aria-label': t('run') },
      h('header', { class: 'row between' }, h('div', { class: 'row' }, icon('run'), h('h3', { dir: 'auto' }, plain(text(run.title))), statusBadge(run)),
        h('span', { class: 'number small muted' }, duration(ms), Number.isFinite(run.tokens) && ` · ${t('run_tokens', { count: run.tokens })}`)),
      h('p', { class: 'muted', role: 'status', dir: 'auto' }, said(run)),
      run.status === 'failed' && failure(text(run.error)),
      text(run.summary) && h('p', { class: 'text', dir: 'auto', key: 'summary' }, shortened(text(run.summary))),
      part(t('run_findings'), list(run.findings).length > 0 && h('ul', { dir: 'auto' }, this.some('findings', list(run.findings), each => h('li', null, shortened(text(each)))))),
      part(t('run_candidates', { count: candidates.length }), candidates.length ? this.#candidates(candidates) : isOpen && h('p', { class: 'empty' }, t('run_no_candidates')), 'candidates'),
      part(t('run_steps', { count: steps.length }), steps.length ? h('ol', { class: 'plain' }, this.some('steps', steps, step, 50, more => h('li', { key: 'more' }, more))) : isOpen && h('p', { class: 'empty' }, t('run_no_steps')), 'steps'),
      !isOpen && h('div', { key: 'discuss' }, button('run_feedback', t('action_discuss'), () => this.tell('discuss', { runId: run.runId }), 'main')))
  }

  /** The candidates by their average, the best score of each name marked. @param {any[]} candidates */
  #candidates(candidates) {
    const names = [...new Set(candidates.flatMap(each => Object.keys(Object(each.scores))))].slice(0, MOST_SCORES)
    const best = new Map(names.map(name => [name, candidates.reduce((most, each) => Math.max(most, score(each, name)), -Infinity)]))
    const sorted = candidates.map(each => ({ ...each, average: average(each) })).sort((a, b) => b.average - a.average)
    return h('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': t('run_candidate') }, h('table', null,
      h('thead', null, h('tr', null, h('th', null, t('run_candidate')), names.map(name => h('th', { 'data-align': 'end', dir: 'auto' }, plain(name))), h('th', { 'data-align': 'end' }, t('run_average')), h('th', null, h('span', { class: 'hidden' }, t('action_discuss'))))),
      h('tbody', null, this.some('candidates', sorted, each => h('tr', null,
        h('td', { dir: 'auto' }, plain(text(each.title)) || path(each.candidateId)),
        names.map(name => scored(score(each, name), best.get(name) === score(each, name) && candidates.length > 1)),
        scored(each.average, false), h('td', null, this.#talk(each))), 50, more => h('tr', { key: 'more' }, h('td', { colspan: names.length + 3 }, more))))))
  }

  /** @param {any} candidate */
  #talk({ candidateId, title }) {
    const { runId, status } = Object(this.values.run)
    return (status === 'succeeded' || status === 'failed') && h('button', { type: 'button', class: 'quiet small', 'aria-label': `${t('action_discuss')}: ${plain(text(title))}`, onclick: () => this.tell('discuss', { runId, candidateId }) }, icon('run_feedback'))
  }
}

/** @param {any} run */
function said({ status, code, progress }) {
  if (status === 'queued') return t('run_unclaimed')
  if (status === 'running') return plain(text(progress))
  return t(status === 'succeeded' ? 'run_succeeded' : code === 'cancelled' || code === 'timed_out' ? `run_${code}` : 'run_failed')
}

/** @param {any} candidate @param {string} name */
function score({ scores }, name) {
  const value = Object.hasOwn(Object(scores), name) ? scores[name] : NaN
  return Number.isFinite(value) ? value : -Infinity
}

/** @param {any} candidate */
function average({ scores }) {
  const all = Object.values(Object(scores)).filter(Number.isFinite)
  return all.length ? all.reduce((sum, each) => sum + each, 0) / all.length : -Infinity
}

/** @param {number} value @param {boolean} isBest */
const scored = (value, isBest) => h('td', { class: `number ${isBest ? 'best' : ''}`, 'data-align': 'end' }, isBest && icon('star', t('run_best')), value > -Infinity ? number(value, { maximumFractionDigits: 3 }) : '–')

/** @param {any} each @param {number} index @returns {Child} */
const step = (each, index) => h('li', { key: `step ${index}` }, h('details', { class: 'step' },
  h('summary', null, icon('chevron'), h('span', { dir: 'auto' }, `${index + 1}. `, plain(text(each.title) || text(each.stepId))), h('span', { class: 'small muted' }, time(each.at))),
  h('div', { class: 'stack' }, [['run_prompt', each.prompt], ['run_output', each.output]].map(([key, value]) => text(value) && h('section', null, h('h5', { class: 'small muted' }, t(String(key))), h('div', { class: 'note text', dir: 'auto' }, shortened(text(value))))))))

define('throughline-run', Run, ['run', 'steps', 'candidates'])
