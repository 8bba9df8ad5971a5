/** `<throughline-build>`: a build, from the queue to its version. */

import { h, sheet } from './parts/dom.js'
import { ThroughlineElement, define } from './parts/element.js'
import { icon } from './parts/icons.js'
import { link } from './parts/markdown.js'
import { badge, button, list, path, plain, shortened, text } from './parts/small.js'
import { duration, t, word } from '../texts.js'

const PHASES = ['queue', 'setup', 'development', 'dependencies', 'build', 'deploy', 'metadata']
const SILENT_MS = 10_000

/** The tone and the icon of each status. */
export const STATUS = /** @type {Record<string, [string, string]>} */ ({ queued: ['plain', 'queue'], running: ['accent', 'clock'], succeeded: ['good', 'done'], failed: ['bad', 'error'], cancelled: ['plain', 'cross'] })

/** @param {any} what a build or a run */
export function statusBadge({ status, code }) {
  const shown = code === 'cancelled' ? code : text(status)
  const [tone, name] = STATUS[shown] ?? ['plain', 'queue']
  return badge(tone, name, word('status', shown))
}

/** An element that shows the time since something began, while that goes on. */
export class TimedElement extends ThroughlineElement {
  #clock = 0

  /** @param {any} what a build or a run */
  passed({ status, duration: ms, queuedAt, claimedAt, endedAt }) {
    const isOpen = status === 'queued' || status === 'running'
    clearTimeout(this.#clock)
    if (isOpen) this.#clock = window.setTimeout(() => this.renew(), 1000)
    const from = Date.parse(claimedAt ?? queuedAt)
    if (!isOpen && Number.isFinite(ms)) return ms
    return Math.max(0, (isOpen ? Date.now() : Date.parse(endedAt)) - from) || 0
  }

  disconnectedCallback() {
    super.disconnectedCallback()
    clearTimeout(this.#clock)
  }
}

export class Build extends TimedElement {
  static sheets = [sheet(`
.phases { display: grid; gap: 4px 12px; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); } @container (min-width: 760px) { .phases { grid-template-columns: repeat(7, auto); } }
.phases li { border-block-start: 3px solid var(--line); padding-block-start: 4px; font-size: 13px; color: var(--muted); display: flex; gap: 4px; align-items: center; min-block-size: 32px; }
.phases .done { border-color: var(--good); } .phases .now { border-color: var(--accent); color: var(--text); font-weight: 600; } .phases .failed { border-color: var(--bad); color: var(--bad); }
.now .icon { color: var(--accent); animation: pulse 1.2s ease-in-out infinite; } .done .icon { color: var(--good); } @keyframes pulse { 50% { opacity: .3; } }
.last { min-block-size: 24px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; } .log { max-block-size: 240px; overflow: auto; font-size: 13px; } .log li { display: flex; gap: 8px; }
`)]

  render() {
    const build = Object(this.values.build)
    const { status, title, versionId, buildId } = build
    const reports = list(build.events).map(Object)
    const isOpen = status === 'queued' || status === 'running'
    const ms = this.passed(build)
    return h('section', { class: 'card', role: 'group', 'aria-label': t('build') },
      h('header', { class: 'row between' }, h('div', { class: 'row' }, icon('build'), h('strong', null, t('build')), statusBadge(build), h('span', { class: 'small muted' }, path(text(buildId).slice(0, 8)))),
        h('span', { class: 'number small muted', title: t('build_elapsed') }, duration(ms))),
      phases(build, reports),
      h('p', { class: 'hidden', role: 'status' }, said(build)),
      h('p', { class: isOpen ? 'last muted' : 'muted', dir: 'auto' }, status === 'queued' && ms > SILENT_MS ? t('build_unclaimed') : isOpen ? plain(text(reports.at(-1)?.title ?? title).slice(0, 500)) : status === 'succeeded' ? t('build_succeeded') : t(ENDS[build.code] ?? 'build_failed')),
      isOpen && h('p', { class: 'small', key: 'lock' }, icon('lock'), ' ', t('build_locked')),
      status === 'failed' && failure(text(build.error)),
      reports.length > 0 && h('details', { key: 'reports' }, h('summary', { class: 'small' }, t('build_reports', { count: reports.length })),
        h('ol', { class: 'plain log', tabindex: 0 }, this.some('reports', reports, each => h('li', null, h('span', { class: 'muted' }, word('build_phase', each.phase)), h('span', { dir: 'auto' }, plain(text(each.title)))), 100, more => h('li', { key: 'more' }, more)))),
      h('div', { class: 'row', key: 'actions' },
        versionId && badge('good', 'done', t('build_version', { version: text(versionId) })),
        leading('build_preview', build.previewUrl), leading('build_artifact', build.artifactUrl),
        isOpen && button('stop', t('action_cancel_build'), () => this.tell('cancel', { buildId })),
        status === 'failed' && button('again', t('action_rebuild'), () => this.tell('again', { buildId }), 'main')))
  }
}

const ENDS = /** @type {Record<string, string>} */ ({ cancelled: 'build_cancelled', timed_out: 'build_timed_out', failed: 'build_failed' })

/** @param {string} key @param {unknown} target */
const leading = (key, target) => text(target) && link(t(key), text(target))

/** The phase and what became of it, for a reader who hears the page. @param {any} build */
const said = ({ status, phase }) => [status === 'running' && phase ? word('build_phase', phase) : '', word('status', status)].filter(Boolean).join(': ')

/** @param {any} build @param {any[]} reports */
function phases({ status, phase, code }, reports) {
  const now = PHASES.indexOf(status === 'queued' ? 'queue' : text(phase))
  const started = new Set(reports.map(each => each.phase))
  return h('ol', { class: 'plain phases', 'aria-label': t('build_phases') }, PHASES.map((name, index) => {
    const state = status === 'succeeded' || index < now ? (index > now && !started.has(name) ? '' : 'done') : index > now ? '' : status === 'failed' ? code === 'cancelled' ? '' : 'failed' : 'now'
    return h('li', { class: state, 'aria-current': state === 'now' && 'step' }, state && icon({ done: 'check', now: 'clock', failed: 'error' }[state] ?? 'clock'), word('build_phase', name))
  }))
}

/**
 * The first line of an error; the rest opens.
 * @param {string} error
 */
export function failure(error) {
  const [first = '', ...rest] = plain(error, true).trim().split('\n')
  if (!first) return null
  const line = h('code', { class: 'bad-line' }, shortened(first, true, 500))
  return h('div', { class: 'note bad', dir: 'ltr', key: 'error' }, rest.length ? h('details', null, h('summary', null, line), h('pre', { tabindex: 0 }, shortened(rest.join('\n'), true))) : line)
}

define('throughline-build', Build, ['build'])
