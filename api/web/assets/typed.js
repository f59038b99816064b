// Keeps what is typed into the forms of this tab until it has been sent, so that signing in again, loading the page again or the other language
// loses nothing. Passwords, codes and files are never kept.

const screen = document.documentElement
const reader = screen.dataset.reader ?? ''
const prefix = 'roombook-typed '
const key = prefix + location.pathname
const forms = [...document.querySelectorAll('main form[method="post"]')]
const answered = document.querySelector('main .problem[role="alert"]') !== null // the server has shown the form again, with what was typed
const read = key => JSON.parse(sessionStorage.getItem(key))
const write = (key, kept) => sessionStorage.setItem(key, JSON.stringify(kept))

// fields are those of a form that can be filled in, in an order that does not change.
const fields = form => [...form.elements].filter(e => e.name && e.autocomplete !== 'one-time-code' && !['hidden', 'password', 'file', 'submit', 'button'].includes(e.type))
const checks = e => e.type === 'checkbox' || e.type === 'radio'
const value = e => checks(e) ? e.checked : e.value
const untouched = e => checks(e) ? e.defaultChecked : e.tagName === 'SELECT' ? ([...e.options].find(o => o.defaultSelected) ?? e.options[0])?.value : e.defaultValue

// keep writes down what of a form differs from what is stored, or all of it where the page shows what was typed before.
function keep(form) {
  const typed = {}
  fields(form).forEach((e, i) => { if (answered || value(e) !== untouched(e)) typed[i + e.name] = value(e) })
  const kept = read(key) ?? {reader, forms: {}}
  kept.forms[forms.indexOf(form)] = typed
  write(key, kept)
}

function restore() {
  const kept = read(key)
  if (!kept || kept.reader !== reader || answered) return
  let back = false
  for (const [n, typed] of Object.entries(kept.forms)) {
    if (forms[n]) fields(forms[n]).forEach((e, i) => {
      const was = typed[i + e.name]
      if (was === undefined || was === value(e)) return
      if (checks(e)) e.checked = was
      else e.value = was
      e.closest('details')?.setAttribute('open', '')
      back = true
    })
  }
  const notice = document.getElementById('typed')
  if (!back || !notice) return
  notice.hidden = false
  notice.querySelector('button').addEventListener('click', () => {
    sessionStorage.removeItem(key)
    forms.forEach(f => f.reset())
    notice.hidden = true
  })
}

// What has been sent is no longer needed, unless the reader had to sign in first or is told why it was not done.
for (const name of Object.keys(sessionStorage).filter(k => k.startsWith(prefix))) {
  const kept = read(name)
  if (!kept.sent) continue
  const refused = screen.classList.contains('screen-signin') || screen.classList.contains('screen-problem') || answered && name === key
  if (refused) write(name, {...kept, sent: false})
  else sessionStorage.removeItem(name)
}
if (!screen.classList.contains('screen-signin')) {
  restore()
  for (const form of forms) {
    form.addEventListener('input', () => keep(form))
    form.addEventListener('submit', () => {
      keep(form)
      write(key, {...read(key), sent: true})
    })
  }
}
