// Requests to the API. An answer is {status, ok, body, etag, position}; one that did not come has status 0.

export async function request(base, method, path, {body, etag, position, key} = {}) {
  const headers = {Accept: 'application/json'}
  if (body) headers['Content-Type'] = 'application/json'
  if (etag) headers['If-Match'] = etag
  if (position) headers['Roombook-Position'] = String(position)
  if (key) headers['Idempotency-Key'] = key
  try {
    const r = await fetch(base + path, {method, headers, body: body && JSON.stringify(body), cache: 'no-store'})
    const text = await r.text()
    return {status: r.status, ok: r.ok, body: text ? JSON.parse(text) : null, etag: r.headers.get('ETag'), position: r.headers.get('Roombook-Position')}
  } catch {
    return {status: 0, ok: false, body: null}
  }
}

// newKey returns an idempotency key, so that a command that is sent again is carried out once.
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, b => b.toString(16).padStart(2, '0')).join('')
}
