// Applies the frames of a page's channel, and counts down. Without it the page shows the state of its request.
'use strict'
const body = document.body, status = document.getElementById('status')
let tag = body.dataset.tag, source

const say = (state, text) => { body.dataset.state = state; if (status.textContent !== text) status.textContent = text }

const marker = element => element && element !== body
  ? element.id ? '#' + CSS.escape(element.id) : element.getAttribute('href') && `a[href="${CSS.escape(element.getAttribute('href'))}"]`
  : null

// Replaces content and gives the focus back to the same link or field.
function keepingFocus(root, change) {
  const inside = root.contains(document.activeElement) && marker(document.activeElement)
  change()
  if (inside && document.activeElement === body) (root.querySelector(inside) || root.closest('section, main'))?.focus?.({preventScroll: true})
}

function nodeOf(html) {
  const template = document.createElement('template')
  template.innerHTML = html
  return template.content.firstElementChild
}

function applyList(list, change) {
  const known = new Map([...list.children].map(child => [child.dataset.key, child]))
  keepingFocus(list, () => {
    for (const [key, html] of Object.entries(change.items)) {
      const fresh = nodeOf(html), old = known.get(key)
      if (old) {
        if (old.querySelector('details')?.open) fresh.querySelector('details').open = true
        old.replaceWith(fresh)
      }
      fresh.classList.add('fresh')
      known.set(key, fresh)
    }
    if (change.keys === undefined) return
    const kept = [...list.children].slice(0, change.keep)
    const wanted = change.keys.map(key => known.get(key)).filter(Boolean)
    list.replaceChildren(...kept, ...wanted)
  })
}

function apply(frame) {
  for (const [name, html] of Object.entries(frame.parts)) {
    const part = document.getElementById(name)
    if (part) keepingFocus(part, () => { part.innerHTML = html })
  }
  for (const [name, change] of Object.entries(frame.lists)) {
    const list = document.getElementById(name)
    if (list) applyList(list, change)
  }
  tick()
}

function connect() {
  const events = new URL(body.dataset.events, location.href)
  events.searchParams.set('after', tag)
  source = new EventSource(events)
  source.onopen = () => say('live', 'live')
  source.onerror = () => {
    say('away', 'reconnecting…')
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000)
  }
  source.onmessage = event => {
    tag = event.lastEventId
    body.dataset.frames = Number(body.dataset.frames || 0) + 1
    apply(JSON.parse(event.data))
  }
}

const two = number => String(number).padStart(2, '0')
function span(seconds) {
  const s = Math.max(0, Math.floor(seconds)), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60
  if (h >= 48) return `${Math.floor(h / 24)} days`
  return h ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`
}
const set = (element, text) => { if (element.textContent !== text) element.textContent = text }
function tick() {
  const now = Date.now()
  for (const time of document.querySelectorAll('time[data-due]')) {
    const left = (time.dataset.due - now) / 1000
    set(time, left > 0 ? `closes in ${span(left)}` : 'closing')
    time.classList.toggle('soon', left < 60)
  }
  for (const time of document.querySelectorAll('time[data-ago]')) {
    const ago = (now - time.dataset.ago) / 1000
    set(time, ago < 5 ? 'just now' : ago < 60 ? `${Math.floor(ago)} s ago` : ago < 3600 ? `${Math.floor(ago / 60)} min ago` : ago < 172800 ? `${Math.floor(ago / 3600)} h ago` : `${Math.floor(ago / 86400)} days ago`)
  }
}

tick()
setInterval(tick, 1000)
if (body.dataset.events) { say('away', 'connecting…'); connect() }
