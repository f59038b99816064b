// Keeps what is typed into the forms of this tab until it has been sent, so that signing in again, loading the page again or the other language
// loses nothing. Passwords, codes and files are never kept.

const screen = document.documentElement
const reader = screen.dataset.reader ?? ''
const prefix = 'roombook-typed '
const key = prefix + location.pathname
const answered = document.querySelector('main .problem[role="alert"]') !== null // the server has shown the form again, with what was typed
const read = key => JSON.parse(sessionStorage.getItem(key))
const write = (key, kept) => sessionStorage.setItem(key, JSON.stringify(kept))
const records = () => Object.keys(sessionStorage).filter(k => k.startsWith(prefix))

// fields are those of a form that can be filled in.
const fields = form => [...form.elements].filter(e => e.name && e.autocomplete !== 'one-time-code' && !['hidden', 'password', 'file', 'submit', 'button'].includes(e.type))
const forms = [...document.querySelectorAll('main form[method="post"]')].filter(form => fields(form).length > 0)
// A form and its fields are known by what they are for: their places change, as when another request comes first.
const formID = form => [...form.elements].filter(e => e.name === 'do' || e.name === 'fault').map(e => e.value).join()
const fieldID = e => checks(e) ? `${e.name}=${e.value}` : e.name
const checks = e => e.type === 'checkbox' || e.type === 'radio'
const value = e => checks(e) ? e.checked : e.value
const untouched = e => checks(e) ? e.defaultChecked : e.tagName === 'SELECT' ? ([...e.options].find(o => o.defaultSelected) ?? e.options[0])?.value : e.defaultValue

// keep writes down what of a form differs from what is stored, or all of it where the page shows what was typed before.
function keep(form, sent) {
  const typed = {}
  for (const e of fields(form)) if (answered || value(e) !== untouched(e)) typed[fieldID(e)] = value(e)
  const before = read(key)
  write(key, {reader, search: location.search, forms: {...(before?.reader === reader ? before.forms : {}), [formID(form)]: typed}, sent})
}

function restore() {
  const kept = read(key)
  if (!kept || kept.reader !== reader || answered) return
  const chosen = kept.search === location.search ? new URLSearchParams() : new URLSearchParams(location.search) // by another link, later
  let back = false
  for (const form of forms) for (const e of fields(form)) {
    const was = kept.forms[formID(form)]?.[fieldID(e)]
    if (was === undefined || was === value(e) || value(e) !== untouched(e) || chosen.has(e.name) && untouched(e)) continue
    if (e.tagName === 'SELECT' && ![...e.options].some(o => o.value === was)) continue
    if (checks(e)) e.checked = was
    else e.value = was
    e.closest('details')?.setAttribute('open', '')
    back = true
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

// What has been sent is no longer needed, unless the reader had to sign in first, is told why it was not done, or loads a page again or goes back
// because the server did not answer. Nobody needs what another reader typed, nor what was typed by whoever has signed out.
const again = performance.getEntriesByType('navigation')[0]?.type !== 'navigate'
for (const name of records()) {
  const {sent, ...kept} = read(name)
  if (reader && kept.reader !== reader || screen.dataset.signedOut !== undefined) {
    sessionStorage.removeItem(name)
    continue
  }
  if (sent === undefined) continue
  const refused = again || screen.classList.contains('screen-signin') || screen.classList.contains('screen-problem') || answered && name === key
  if (!refused) delete kept.forms[sent]
  if (Object.keys(kept.forms).length > 0) write(name, kept)
  else sessionStorage.removeItem(name)
}
if (!screen.classList.contains('screen-signin')) {
  restore()
  for (const form of forms) {
    form.addEventListener('input', () => keep(form))
    form.addEventListener('submit', () => keep(form, formID(form)))
  }
}
