// Fills in the code that a link has behind its #, where it is sent to no server, and takes it out of the address.
const code = document.getElementById('code')
if (location.hash.length > 1) {
  code.value = location.hash.slice(1)
  history.replaceState(null, '', location.pathname)
  document.getElementById('password').focus()
}
