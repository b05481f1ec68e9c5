// The clients that front ends use, against a running gateway:
//
//   cp -r .ci/graphql-clients /tmp/clients && cd /tmp/clients && npm ci
//   node clients.mjs http://127.0.0.1:8080/graphql TOKEN [SUBSCRIPTION VARIABLES EVENTS]
//
// Each asks a query over each transport it has and sees a document refused. Each also reads that many events of the
// subscription, every version once and in order, over each transport. Without one it is the onboarding of a person who
// is registered for it, with a token of the sandbox for a dashboard.
import assert from 'node:assert/strict';
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from '@apollo/client/core';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { Client, cacheExchange, fetchExchange, subscriptionExchange } from '@urql/core';
import { createClient as createSSE } from 'graphql-sse';
import { createClient as createWS } from 'graphql-ws';
import WebSocket from 'ws';

const [url, token, ...given] = process.argv.slice(2);
if (!url || !token) {
  console.error('usage: node clients.mjs URL TOKEN [SUBSCRIPTION VARIABLES EVENTS]');
  process.exit(2);
}
const wsURL = url.replace(/^http/, 'ws');
const headers = { authorization: `Bearer ${token}` };
const query = '{ __typename viewer { __typename } }';
const wanted = { __typename: 'Query', viewer: { __typename: 'Viewer' } };
const wrong = '{ nothing }';

// someone registers a person whom the sandbox's simulator approves, and a face of theirs: two versions of their onboarding.
async function someone() {
  const digits = [9, ...Array.from({ length: 8 }, () => Math.floor(Math.random() * 10))];
  for (let i = 0; i < 2; i++) {
    const sum = digits.reduce((s, d, at) => s + d * (digits.length + 1 - at), 0);
    digits.push(((sum * 10) % 11) % 10);
  }
  const documentNumber = digits.join('');
  const { person } = await mutation('registerPerson', 'RegisterPersonInput', 'person { id kyc { status } }', {
    externalId: `clients-${documentNumber}`, name: 'Maria da Silva', documentNumber, birthdate: '1990-02-28',
    emails: [{ address: 'maria@example.com' }], phones: [{ number: '+5511987654321', type: 'MOBILE' }],
    address: { street: 'Avenida Paulista', number: '1000', city: 'São Paulo', state: 'SP', postalCode: '01310-100', country: 'BRA' },
  });
  assert.equal(person.kyc.status, 'APPROVED');
  await mutation('registerFace', 'RegisterFaceInput', 'faceRegistration { id }', { documentNumber, imageKey: '0f8fad5b-d9cb-469f-a165-70867728950e' });
  return person.id;
}

async function mutation(name, type, selection, input) {
  const response = await fetch(url, {
    method: 'POST', headers: { ...headers, 'content-type': 'application/json' },
    body: JSON.stringify({ query: `mutation M($input: ${type}!) { ${name}(input: $input) { ${selection} userErrors { code path } } }`, variables: { input } }),
  });
  const answer = await response.json();
  assert.deepEqual(answer.data?.[name]?.userErrors, [], JSON.stringify(answer));
  return answer.data[name];
}

const [subscription, variables, events] = given.length ? given
  : ['subscription S($id: ID!) { onboardingUpdated(personId: $id, sinceVersion: 0) { version } }', JSON.stringify({ id: await someone() }), 2];
const args = JSON.parse(variables);
const count = Number(events);

// first reads n results of a subscription in the manner of graphql-ws and graphql-sse, and ends it.
const first = (client, payload, n) => new Promise((resolve, reject) => {
  const results = [];
  let done = false;
  const dispose = client.subscribe(payload, {
    next(result) {
      if (done) return;
      results.push(result);
      if (results.length === n) {
        done = true;
        setImmediate(() => dispose()); // it may not be assigned yet
        resolve(results.slice());
      }
    },
    error: reject,
    complete: () => { if (!done) reject(new Error(`complete after ${results.length} results`)); },
  });
});

// ordered checks what every subscription must give: a number, one higher with every event.
const ordered = (results) => {
  assert.equal(results.length, count);
  const numbers = results.map((r) => {
    assert.equal(r.errors, undefined);
    const [value] = Object.values(r.data);
    return typeof value === 'number' ? value : value.version;
  });
  numbers.forEach((n, i) => assert.equal(n, numbers[0] + i));
};

const errorsOf = (e) => (Array.isArray(e) ? e : e.errors ?? e.graphQLErrors ?? []);
const code = (e) => errorsOf(e)[0]?.extensions?.code;

const overWS = (options = {}) => createWS({
  url: wsURL, webSocketImpl: WebSocket, retryAttempts: 0, connectionParams: { authorization: headers.authorization }, ...options,
});
const overSSE = () => createSSE({ url, headers, retryAttempts: 0 });

const checks = {
  async 'graphql-ws: query, refusal, subscription'() {
    const client = overWS();
    const [result] = await first(client, { query }, 1);
    assert.deepEqual(result, { data: wanted });
    await assert.rejects(first(client, { query: wrong }, 1), (e) => code(e) === 'GRAPHQL_VALIDATION_FAILED');
    const many = await Promise.all(Array.from({ length: 5 }, () => first(client, { query: subscription, variables: args }, count)));
    many.forEach(ordered);
    await client.dispose();
  },
  async 'graphql-ws: the token in the header of the handshake'() {
    const Authorized = class extends WebSocket {
      constructor(address, protocols) { super(address, protocols, { headers }); }
    };
    const client = overWS({ webSocketImpl: Authorized, connectionParams: undefined });
    const [result] = await first(client, { query }, 1);
    assert.deepEqual(result, { data: wanted });
    await client.dispose();
  },
  async 'graphql-ws: a bad token closes with 4401'() {
    const client = overWS({ connectionParams: { authorization: 'Bearer nonsense' } });
    await assert.rejects(first(client, { query }, 1), (e) => e.code === 4401);
    await client.dispose();
  },
  async 'graphql-sse: query, refusal, subscription'() {
    const client = overSSE();
    const [result] = await first(client, { query }, 1);
    assert.deepEqual(result, { data: wanted });
    const [refused] = await first(client, { query: wrong }, 1);
    assert.equal(code(refused), 'GRAPHQL_VALIDATION_FAILED');
    const many = await Promise.all(Array.from({ length: 5 }, () => first(overSSE(), { query: subscription, variables: args }, count)));
    many.forEach(ordered);
    client.dispose();
  },
  async 'graphql-sse: a bad token is a 401'() {
    const client = createSSE({ url, headers: { authorization: 'Bearer nonsense' }, retryAttempts: 0 });
    await assert.rejects(first(client, { query }, 1), (e) => e.response?.status === 401);
    client.dispose();
  },
  async 'Apollo Client: query by POST, subscription by WebSocket'() {
    const socket = overWS();
    const client = new ApolloClient({
      cache: new InMemoryCache(),
      link: ApolloLink.split(({ operationType }) => operationType === 'subscription', new GraphQLWsLink(socket), new HttpLink({ uri: url, headers })),
    });
    const { data } = await client.query({ query: gql(query), fetchPolicy: 'no-cache' });
    assert.deepEqual(data, wanted);
    await assert.rejects(client.query({ query: gql(wrong) }), (e) => code(e) === 'GRAPHQL_VALIDATION_FAILED');
    ordered(await apollo(client));
    client.stop();
    await socket.dispose();
  },
  async 'Apollo Client: everything by WebSocket'() {
    const socket = overWS();
    const client = new ApolloClient({ cache: new InMemoryCache(), link: new GraphQLWsLink(socket) });
    const { data } = await client.query({ query: gql(query), fetchPolicy: 'no-cache' });
    assert.deepEqual(data, wanted);
    client.stop();
    await socket.dispose();
  },
  async 'urql: query by POST, subscription by event stream'() {
    const client = new Client({ url, preferGetMethod: false, fetchOptions: { headers }, fetchSubscriptions: true, exchanges: [cacheExchange, fetchExchange] });
    await urql(client);
  },
  async 'urql: query by GET, subscription by WebSocket'() {
    const socket = overWS();
    const client = new Client({
      url, preferGetMethod: 'force', fetchOptions: { headers },
      exchanges: [fetchExchange, subscriptionExchange({
        forwardSubscription: (request) => ({
          subscribe: (sink) => ({ unsubscribe: socket.subscribe({ ...request, query: request.query ?? '' }, sink) }),
        }),
      })],
    });
    await urql(client);
    await socket.dispose();
  },
};

const apollo = (client) => new Promise((resolve, reject) => {
  const results = [];
  const running = client.subscribe({ query: gql(subscription), variables: args, fetchPolicy: 'no-cache' }).subscribe({
    next(result) {
      results.push({ data: result.data, errors: result.error });
      if (results.length === count) {
        resolve(results.slice());
        setImmediate(() => running.unsubscribe());
      }
    },
    error: reject,
  });
});

const urql = async (client) => {
  const result = await client.query(query, {}).toPromise();
  assert.ifError(result.error);
  assert.deepEqual(result.data, wanted);
  const refused = await client.query(wrong, {}).toPromise();
  assert.equal(code(refused.error), 'GRAPHQL_VALIDATION_FAILED');
  ordered(await new Promise((resolve, reject) => {
    const results = [];
    const running = client.subscription(subscription, args).subscribe((r) => {
      if (r.error) reject(r.error);
      results.push({ data: r.data });
      if (results.length === count) {
        resolve(results.slice());
        setImmediate(() => running.unsubscribe());
      }
    });
  }));
};

// A client that hangs has failed.
const within = (promise, ms) => {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`nothing after ${ms} ms`)), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await within(check(), 30_000);
    console.log(`ok   ${name}`);
  } catch (e) {
    failed += 1;
    console.log(`FAIL ${name}: ${e?.stack ?? JSON.stringify(e)}`);
  }
}
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
