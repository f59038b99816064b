// Favourite rooms. A star is a button of a form, which is sent here without leaving the page.

// show makes a star that of a favourite, or of another room.
export function show(star, is) {
  star.value = is ? 'no' : 'yes'
  star.textContent = is ? '★' : '☆'
  star.setAttribute('aria-pressed', String(is))
}

const refused = new WeakSet() // stars whose form goes its way, to the page that says why

let sent = Promise.resolve() // one after the other: the favourites of a browser are in one cookie

document.addEventListener('submit', event => {
  const {submitter: star, target: form} = event
  if (!star?.matches('.star') || refused.has(star)) return
  event.preventDefault()
  sent = sent.then(() => send(star, form))
})

async function send(star, form) {
  const is = star.value === 'yes'
  // The answer leads back to this module, which the browser has; if nobody is signed in any more, or it is refused, it does not.
  const back = new URL(import.meta.url)
  const answer = await fetch(star.formAction, {method: 'POST', body: new URLSearchParams({favourite: star.value, back: back.pathname.slice(document.documentElement.dataset.base.length)})}).catch(() => null)
  if (answer?.url !== back.href) {
    refused.add(star)
    form.requestSubmit(star)
    return
  }
  show(star, is)
  document.dispatchEvent(new CustomEvent('roombook:favourite', {detail: {room: new URL(star.formAction).pathname.split('/').at(-2), is}}))
}
