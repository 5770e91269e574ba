'use strict'
const body = document.body, offer = document.getElementById('offer'), away = document.getElementById('away')
const two = number => String(number).padStart(2, '0')
function tick() {
  for (const time of document.querySelectorAll('time[data-due]')) {
    const left = Math.floor((time.dataset.due - Date.now()) / 1000), h = Math.floor(left / 3600)
    const text = left <= 0 ? time.dataset.closing : `${h ? h + ':' + two(Math.floor(left / 60) % 60) : Math.floor(left / 60)}:${two(left % 60)}`
    if (time.textContent !== text) time.textContent = text
    time.classList.toggle('soon', left < 60)
  }
}
tick()
setInterval(tick, 1000)
const source = new EventSource(body.dataset.events)
source.onerror = () => { body.dataset.live = 'away' }
source.onopen = () => { body.dataset.live = 'yes' }
source.onmessage = event => {
  const { parts } = JSON.parse(event.data)
  if (parts.away !== undefined) away.textContent = parts.away
  if (parts.offer === undefined) return
  offer.innerHTML = parts.offer
  tick()
  if (!offer.querySelector('[data-state=forming]')) { source.close(); location.reload() }
}
