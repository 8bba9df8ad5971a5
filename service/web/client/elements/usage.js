/** `<throughline-usage>`: the balance, the bill of each reply and build, and the figures of a project. */

import { chart, chartSheet } from './parts/charts.js'
import { h, sheet, svg } from './parts/dom.js'
import { ThroughlineElement, define, part } from './parts/element.js'
import { icon } from './parts/icons.js'
import { fact, list, text, time } from './parts/small.js'
import { date, duration, number, percent, seconds, t, word } from '../texts.js'

/** @typedef {import('./parts/dom.js').Child} Child */

const DAY_MS = 86_400_000

export class Usage extends ThroughlineElement {
  static sheets = [chartSheet, sheet(`
.meter { display: block; inline-size: 100%; block-size: 12px; border-radius: 99px; background: var(--raised); border: 1px solid var(--line); overflow: hidden; } .meter:dir(rtl) { transform: scaleX(-1); }
.meter rect { transition: x .14s, width .14s; } .used { fill: var(--muted); opacity: .55; } .left { fill: var(--accent); } .hatch { stroke: var(--accent); stroke-width: 3; }
.charts { display: grid; gap: 24px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); align-items: start; }
`)]

  render() {
    const { balance, ledger, figures } = this.values
    const bills = list(ledger?.items ?? ledger).map(Object)
    return h('div', { class: 'stack' },
      balance && meter(balance), figures && this.#figures(Object(figures)),
      bills.length > 0 && h('div', { class: 'charts', key: 'charts' },
        chart(this, 'days', { title: t('usage_by_day'), ...named(byDay(bills), day), form: 'columns', show: seconds }),
        chart(this, 'purposes', { title: t('usage_by_operation'), ...named(byPurpose(bills), each => word('operation', each)), show: seconds })),
      ledger && part(t('usage_bill'), bills.length ? this.#bill(bills) : h('p', { class: 'empty' }, t('usage_empty')), 'bill'))
  }

  /** @param {any[]} bills */
  #bill(bills) {
    const heads = [['usage_time'], ['usage_purpose'], ['usage_seconds', 1], ['usage_tokens', 1], ['usage_cost', 1]]
    return h('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': t('usage_bill') }, h('table', null,
      h('thead', null, h('tr', null, heads.map(([key, isNumber]) => h('th', { 'data-align': isNumber && 'end' }, t(String(key)))))),
      h('tbody', null, this.some('bills', bills, each => h('tr', null,
        h('td', { class: 'number' }, time(each.timestamp)), h('td', null, word('operation', each.operationType)),
        figure(seconds(Number(each.billedSeconds) || 0)), figure(tokens(each)), figure(cost(each.costUsd))), 50,
      more => h('tr', { key: 'more' }, h('td', { colspan: 5 }, more))))))
  }

  /** @param {any} figures */
  #figures({ byMode, seconds: spent, costUsd, replies }) {
    const modes = Object.entries(Object(byMode))
    return h('div', { class: 'stack', key: 'figures' }, h('dl', { class: 'facts' },
      Number.isFinite(spent) && fact(t('usage_seconds'), seconds(spent)), costUsd && fact(t('usage_cost'), cost(costUsd)),
      Number.isFinite(replies?.errorRate) && fact(t('usage_error_rate'), percent(replies.errorRate)),
      Number.isFinite(replies?.p50Ms) && fact(t('usage_median'), duration(replies.p50Ms))),
    modes.length > 0 && chart(this, 'modes', { title: t('usage_replies'), labels: modes.map(([mode]) => word('plan_kind', mode)), values: modes.map(([, each]) => Number(Object(each).replies)) }))
  }
}

/**
 * The balance as a bar: used, reserved (hatched), available; and its numbers.
 * @param {any} balance
 */
function meter({ creditedSeconds, bonusSeconds, consumedSeconds, reservedSeconds, availableSeconds }) {
  const [credited, used, reserved, available] = [creditedSeconds, consumedSeconds, reservedSeconds, availableSeconds].map(each => Math.max(0, Number(each) || 0))
  const all = Math.max(credited ?? 0, 1)
  const width = (/** @type {number} */ value) => `${Math.min(100, (100 * value) / all)}%`
  const label = t('usage_balance', { available: available ?? 0, credited: credited ?? 0, reserved: reserved ?? 0 })
  return h('section', { key: 'balance' },
    svg('svg', { class: 'meter', role: 'img', 'aria-label': label },
      svg('defs', null, svg('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' }, svg('line', { class: 'hatch', y2: 6 }))),
      bar('used', 0, used ?? 0, width), bar('reserved', used ?? 0, reserved ?? 0, width, 'url(#hatch)'), bar('left', (used ?? 0) + (reserved ?? 0), available ?? 0, width)),
    h('dl', { class: 'facts' }, fact(t('usage_available'), seconds(available ?? 0)), fact(t('usage_reserved'), seconds(reserved ?? 0)),
      fact(t('usage_used'), seconds(used ?? 0)), fact(t('usage_total'), seconds(credited ?? 0)), bonusSeconds > 0 && fact(t('usage_bonus'), seconds(bonusSeconds))),
    !available && h('p', { class: 'note warn', role: 'note', key: 'none' }, icon('alert'), ' ', t('usage_none_left')))
}

/** @param {string} name @param {number} from @param {number} size @param {(value: number) => string} width @param {string} [fill] */
const bar = (name, from, size, width, fill) => svg('rect', { class: name, x: width(from), width: width(size), height: '100%', fill })

/** @param {Child} value */
const figure = value => h('td', { class: 'number', 'data-align': 'end' }, value)

/** @param {any} bill */
const tokens = ({ inputTokens, outputTokens }) => (Number.isFinite(outputTokens) ? number((inputTokens || 0) + outputTokens) : '')

/** Money as it is stored. @param {unknown} value */
const cost = value => text(value) && h('bdi', { dir: 'ltr' }, `$${text(value)}`)

/** @param {string} key */
const day = key => date(key, { day: 'numeric', month: 'short', timeZone: 'UTC' })

/** @param {any[]} bills @param {(bill: any) => string} keyOf @returns {Map<string, number>} */
function summed(bills, keyOf) {
  const sums = new Map()
  for (const each of bills) sums.set(keyOf(each), (sums.get(keyOf(each)) ?? 0) + (Number(each.billedSeconds) || 0))
  return sums
}

/**
 * The seconds of each day from the first bill to the last one, at most a month back.
 * @param {any[]} bills
 */
function byDay(bills) {
  const sums = summed(bills, each => text(each.timestamp).slice(0, 10))
  const days = [...sums.keys()].map(Date.parse).filter(Number.isFinite)
  const last = days.reduce((most, each) => Math.max(most, each), 0)
  const first = days.reduce((least, each) => Math.min(least, each), last)
  const count = Math.min(31, Math.round((last - first) / DAY_MS) + 1)
  const keys = Array.from({ length: count }, (_, index) => new Date(last - (count - 1 - index) * DAY_MS).toISOString().slice(0, 10))
  return keys.map(key => /** @type {[string, number]} */ ([key, sums.get(key) ?? 0]))
}

/** @param {any[]} bills */
const byPurpose = bills => [...summed(bills, each => text(each.operationType))].sort(([, a], [, b]) => b - a)

/** @param {[string, number][]} pairs @param {(key: string) => string} name */
const named = (pairs, name) => ({ labels: pairs.map(([key]) => name(key)), values: pairs.map(([, value]) => value) })

define('throughline-usage', Usage, ['balance', 'ledger', 'figures'])
