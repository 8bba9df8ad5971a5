/**
 * The texts of the page in the language of its user, with numbers, times and durations.
 *
 * A text is a sentence with variables, `{name}`; or its forms by count, as CLDR has them, where
 * `{count}` decides. Digits are western in every language.
 */

/** @typedef {string | Record<string, string>} Text */
/** @typedef {Record<string, string | number>} Variables */

export const LOCALES = Object.freeze(['en', 'fr', 'es', 'ar'])
export const LOCALE_NAMES = Object.freeze({ en: 'English', fr: 'Français', es: 'Español', ar: 'العربية' })

const RIGHT_TO_LEFT = /^(ar|arc|ckb|dv|fa|he|ks|nqo|ps|sd|syr|ug|ur|yi)\b|-(Arab|Hebr|Thaa|Nkoo|Syrc)\b/i
const DAY_S = 86_400

/** @type {Map<string, Promise<Record<string, Text>>>} */
const bundles = new Map()
/** @type {Record<string, Text>} */
let bundle = {}
let current = 'en'

/** Says `change` after the locale has changed. */
export const changes = new EventTarget()

/** The locale of the page. */
export const locale = () => current

/**
 * The first of the wanted languages that the page has texts for.
 * @param {readonly string[]} wanted
 */
export function bestOf(wanted) {
  const known = wanted.map(each => each.toLowerCase().split('-')[0] ?? '')
  return known.find(each => LOCALES.includes(each)) ?? 'en'
}

/**
 * Use a locale: load its texts, then tell everything that shows them.
 * @param {string} wanted
 */
export async function useLocale(wanted) {
  const name = bestOf([wanted])
  let loading = bundles.get(name)
  if (!loading) bundles.set(name, (loading = load(name)))
  try {
    bundle = await loading
  } catch (error) {
    bundles.delete(name)
    throw error
  }
  current = name
  document.documentElement.lang = name
  document.documentElement.dir = dirOf(name)
  changes.dispatchEvent(new Event('change'))
}

/** @param {string} name @returns {Promise<Record<string, Text>>} */
async function load(name) {
  const answer = await fetch(new URL(`texts/${name}.json`, import.meta.url))
  if (!answer.ok) throw new Error(`The texts of ${name} could not be read (${answer.status}).`)
  return answer.json()
}

/**
 * A text with its variables. Words of people and models are isolated, so that they keep their
 * direction; numbers are written as the language writes them.
 * @param {string} key
 * @param {Variables} [variables]
 * @returns {string}
 */
export function t(key, variables = {}) {
  const found = Object.hasOwn(bundle, key) ? bundle[key] : undefined
  if (found === undefined) return key
  const text = typeof found === 'string' ? found : byCount(found, Number(variables.count))
  return text.replace(/\{(\w+)\}/g, (all, name) => {
    const value = Object.hasOwn(variables, name) ? variables[name] : undefined
    if (value === undefined) return all
    return typeof value === 'number' ? number(value) : isolated(value)
  })
}

/**
 * Whether there is a text of this name, such as for a word that a server may add later.
 * @param {string} key
 */
export const has = key => Object.hasOwn(bundle, key)

/**
 * The text of `prefix_word` for a word of a closed set, or the word itself where it has no text.
 * @param {string} prefix @param {unknown} word
 */
export function word(prefix, word) {
  const key = `${prefix}_${word}`
  return has(key) ? t(key) : String(word ?? '')
}

/** @param {Record<string, string>} forms @param {number} count */
function byCount(forms, count) {
  return forms[made(Intl.PluralRules).select(count)] ?? forms.other ?? ''
}

/** @param {string} value */
const isolated = value => `\u2068${value.replace(/[\u202a-\u202e\u2066-\u2069]/g, '')}\u2069`

/**
 * The direction in which a language is written.
 * @param {string | null | undefined} name
 * @returns {'ltr' | 'rtl'}
 */
export const dirOf = name => (RIGHT_TO_LEFT.test(name ?? '') ? 'rtl' : 'ltr')

/** To make a format takes longer than to use it many times. @type {Map<string, any>} */
const formats = new Map()

/**
 * A format of the locale.
 * @template T
 * @param {new (locale: string, options?: any) => T} kind @param {object} [options]
 * @returns {T}
 */
function made(kind, options) {
  const name = `${current} ${kind.name} ${JSON.stringify(options)}`
  let found = formats.get(name)
  if (!found) formats.set(name, (found = new kind(`${current}-u-nu-latn`, options)))
  return found
}

/** @param {number} value @param {Intl.NumberFormatOptions} [options] */
export const number = (value, options) => made(Intl.NumberFormat, options).format(value)

/**
 * A share between 0 and 1, in percent.
 * @param {number} value
 */
export const percent = value => number(value, { style: 'percent', maximumFractionDigits: 0 })

/**
 * AI seconds: `12 s`. They are never minutes, because they are a price.
 * @param {number} count
 */
export const seconds = count => t('unit_seconds', { count })

/**
 * How long something took: `40 s`, `1 m 12 s`, `2 h 5 m`.
 * @param {number} ms
 */
export function duration(ms) {
  const all = Math.max(0, Math.round(ms / 1000))
  if (all < 60) return t('unit_seconds', { count: all })
  if (all < 3600) return t('unit_minutes', { minutes: Math.floor(all / 60), seconds: all % 60 })
  return t('unit_hours', { hours: Math.floor(all / 3600), minutes: Math.floor((all % 3600) / 60) })
}

/**
 * A moment, exactly.
 * @param {string | number | Date} moment
 * @param {Intl.DateTimeFormatOptions} [options]
 */
export function date(moment, options = { dateStyle: 'medium', timeStyle: 'medium' }) {
  const at = new Date(moment)
  return Number.isNaN(at.getTime()) ? '' : made(Intl.DateTimeFormat, options).format(at)
}

/**
 * A moment as people say it: relative up to a day, then its date.
 * @param {string | number | Date} moment
 * @param {number} [now]
 */
export function relative(moment, now = Date.now()) {
  const passed = (new Date(moment).getTime() - now) / 1000
  if (Number.isNaN(passed)) return ''
  if (Math.abs(passed) >= DAY_S) return date(moment, { dateStyle: 'medium' })
  const format = made(Intl.RelativeTimeFormat, { numeric: 'auto' })
  if (Math.abs(passed) < 60) return format.format(Math.round(passed), 'second')
  if (Math.abs(passed) < 3600) return format.format(Math.round(passed / 60), 'minute')
  return format.format(Math.round(passed / 3600), 'hour')
}
