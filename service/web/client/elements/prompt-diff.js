/** `<throughline-prompt-diff>`: what differs between two texts, word by word. */

import { h, sheet } from './parts/dom.js'
import { ThroughlineElement, define } from './parts/element.js'
import { button, list, shortened, text } from './parts/small.js'
import { t } from '../texts.js'

const TAGS = /** @type {Record<string, string>} */ ({ insert: 'ins', delete: 'del' })

export class PromptDiff extends ThroughlineElement {
  static sheets = [sheet(`
.texts { display: grid; gap: 12px; } .text { padding: 12px; border: 1px solid var(--line); border-radius: var(--radius); }
ins { background: var(--good-soft); color: var(--good); text-decoration: underline; text-underline-offset: 3px; } del { background: var(--bad-soft); color: var(--bad); text-decoration: line-through; }
.after, .texts h3 { display: none; }
@media (min-width: 1100px) { @container (min-width: 560px) {
.texts { grid-template-columns: 1fr 1fr; } .texts h3 { display: block; } .after { display: block; } .before ins, .after del { display: none; } } }
`)]

  render() {
    const { ops, number } = this.values
    const pieces = list(ops).map(Object)
    if (!pieces.length) return h('p', { class: 'empty' }, t('diff_empty'))
    const isSame = pieces.every(each => !Object.hasOwn(TAGS, each.op))
    return h('section', { role: 'group', 'aria-label': t('diff_changes') },
      h('p', { class: 'small muted' }, isSame ? t('diff_same') : [counted('diff_added', 'insert', pieces), ' · ', counted('diff_removed', 'delete', pieces)]),
      h('div', { class: isSame ? '' : 'texts' }, ['before', 'after'].map(side => !(isSame && side === 'after') && h('div', { class: side },
        !isSame && h('h3', { class: 'part' }, t(`diff_${side}`)), h('div', { class: 'text', dir: 'auto' }, this.some('ops', pieces, each => piece(each), 2000))))),
      number && !isSame && h('div', null, button('check', t('diff_accept', { number: Number(number) }), () => this.tell('accept', { number }), 'main')))
  }
}

/** @param {any} op */
const piece = ({ op, text: words }) => Object.hasOwn(TAGS, op) ? h(TAGS[op] ?? 'span', null, shortened(text(words))) : shortened(text(words))

/** @param {string} key @param {string} kind @param {any[]} pieces */
const counted = (key, kind, pieces) => t(key, { count: pieces.reduce((sum, each) => sum + (each.op === kind ? text(each.text).split(/\s+/).filter(Boolean).length : 0), 0) })

define('throughline-prompt-diff', PromptDiff, ['ops', 'number'])
