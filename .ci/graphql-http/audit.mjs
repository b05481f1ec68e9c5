// The reference audit of GraphQL over HTTP, 61 audits, against a running gateway:
//
//   cp -r .ci/graphql-http /tmp/audit && cd /tmp/audit && npm ci && node audit.mjs http://127.0.0.1:8080/graphql TOKEN
//
// It is copied first so that node_modules never lies in the checkout. Several audits ask __type, so TOKEN needs
// the scope `admin`, or the gateway must be a sandbox.
import { serverAudits } from 'graphql-http';

// graphql-http 1.23 is the first version with 61 audits; 1.22 has 60.
const expected = 61;

const [url, token] = process.argv.slice(2);
if (!url || !token) {
  console.error('usage: node audit.mjs URL TOKEN');
  process.exit(2);
}

const audits = serverAudits({
  url,
  fetchFn: (input, init = {}) => fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } }),
});

let passed = 0;
let failed = 0;
for (const audit of audits) {
  const result = await audit.fn();
  if (result.status === 'ok') {
    passed += 1;
    continue;
  }
  failed += 1;
  console.log(`${result.status} ${audit.id} ${audit.name}: ${result.reason}`);
}
console.log(`${passed} passed, ${failed} failed`);

// Fewer audits than expected would pass by not asking, so the number counts too.
process.exit(passed === expected && failed === 0 ? 0 : 1);
