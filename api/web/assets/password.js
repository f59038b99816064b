// Fills in the code that a link has behind its #, where it is sent to no server, and takes it out of the address. When the page comes back in
// the other language the code is behind the # again.
const code = document.getElementById('code')
if (location.hash.length > 1) {
  code.value = decodeURIComponent(location.hash.slice(1))
  history.replaceState(null, '', location.pathname)
  code.form.querySelector('input:not(#code)').focus()
}
const language = document.querySelector('.who form:has([name="language"])')
language.addEventListener('submit', () => { language.action += '#' + encodeURIComponent(code.value) })
