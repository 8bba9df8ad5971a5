/** What a person chose for this browser: the theme and the language. */

import { bestOf, useLocale } from '../texts.js'

export const THEMES = Object.freeze(['auto', 'light', 'dark', 'contrast'])

/** @param {string} name @param {string} otherwise */
export function kept(name, otherwise) {
  try {
    return localStorage.getItem(`throughline.${name}`) ?? otherwise
  } catch {
    return otherwise // a browser may keep nothing
  }
}

/** @param {string} name @param {string} value */
export function keep(name, value) {
  try {
    localStorage.setItem(`throughline.${name}`, value)
  } catch {
    // The choice holds until the page is left.
  }
}

export const theme = () => document.documentElement.dataset['theme'] ?? 'auto'

/** @param {string} wanted */
export function useTheme(wanted) {
  if (wanted === 'auto') delete document.documentElement.dataset['theme']
  else document.documentElement.dataset['theme'] = wanted
  keep('theme', wanted)
}

/** @param {string} wanted */
export async function chooseLocale(wanted) {
  keep('locale', wanted)
  await useLocale(wanted)
}

/** Use what was chosen before, else what the browser prefers. */
export async function usePreferences() {
  useTheme(kept('theme', 'auto'))
  await useLocale(kept('locale', bestOf(navigator.languages)))
}
