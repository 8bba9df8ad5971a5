/** The entry of the page: signs in, then shows the application. */

import './elements/chat.js'
import './elements/session-list.js'
import { keepTrue } from './elements/parts/moment.js'
import { h } from './elements/parts/dom.js'
import { attempt } from './controls/toast.js'
import { App } from './page/app.js'
import { usePreferences } from './page/preferences.js'
import { door, redeem, SignedOut, takeCode, token } from './page/signin.js'
import { changes, t } from './texts.js'
import { Throughline } from './throughline.js'

const code = takeCode()

/** Redeem the code of the address, and get the first token; null where nobody is signed in. */
async function signIn() {
  let isRefused = false
  try {
    if (code !== null) await redeem(code)
  } catch (error) {
    if (!(error instanceof SignedOut)) throw error
    isRefused = true // an older session of this browser may still do
  }
  const first = await token().catch(error => {
    if (error instanceof SignedOut) return null
    throw error
  })
  return { first, isRefused }
}

async function start() {
  const [{ first, isRefused }] = await Promise.all([signIn(), usePreferences()])
  if (first === null) return shut(isRefused)
  /** @type {Awaited<ReturnType<typeof token>> | null} */
  let next = first
  const renew = async () => {
    try {
      const got = next ?? (await token())
      next = null
      return got
    } catch (error) {
      if (error instanceof SignedOut) shut(false)
      throw error
    }
  }
  const client = new Throughline({ userId: first.userId, renew })
  const leave = async () => {
    const { browserSessions } = await client.get('/v1/browser-sessions')
    const current = browserSessions.find((/** @type {any} */ each) => each.current)
    if (current) await client.delete(`/v1/browser-sessions/${encodeURIComponent(current.browserSessionId)}`)
    sessionStorage.clear()
    location.replace('/') // what was read is gone from the page, and nothing is followed any more
  }
  const app = new App(client, first.userId, () => void attempt(leave))
  await app.start(document.body)
  changes.addEventListener('change', () => app.renew())
  keepTrue()
}

/** @param {boolean} isRefused */
function shut(isRefused) {
  const show = () => document.body.replaceChildren(door({ isRefused }))
  changes.addEventListener('change', show)
  show()
}

start().catch(error => {
  console.error(error)
  document.body.replaceChildren(h('main', { class: 'door' }, h('div', { class: 'card', role: 'alert' }, h('h1', null, t('page_failed')), h('p', null, String(error?.detail || error?.message || error)), h('div', null, h('button', { type: 'button', class: 'main', onclick: () => location.reload() }, t('try_again'))))))
})
