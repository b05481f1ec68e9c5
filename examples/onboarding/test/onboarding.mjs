// The page in headless Chromium, against the sandbox:
//
//   npm ci && npm run build && node test/onboarding.mjs PATH_OF_KYCGATE [SCREENSHOT.png]
//
// Everything is driven through the API, as a partner's back end and an app's capture would; the page is opened once for each person and
// never reloaded.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { preview } from 'vite';

const [kycgate, screenshot] = process.argv.slice(2);
if (!kycgate) {
  console.error('usage: node test/onboarding.mjs PATH_OF_KYCGATE [SCREENSHOT.png]');
  process.exit(2);
}
const listen = process.env.LISTEN ?? '127.0.0.1:18280';
const adminListen = process.env.ADMIN_LISTEN ?? '127.0.0.1:19290';
const data = await mkdtemp(join(tmpdir(), 'kycgate-example-'));

// sandbox starts one and gives what it prints.
async function sandbox() {
  const process = spawn(kycgate, ['sandbox', '--listen', listen, '--admin-listen', adminListen, '--data', data], { stdio: ['ignore', 'pipe', 'ignore'] });
  let text = '';
  await new Promise((resolve, reject) => {
    process.stdout.on('data', (chunk) => { text += chunk; if (/^ready/m.test(text)) resolve(); });
    process.on('exit', (code) => reject(new Error(`the sandbox ended with ${code}: ${text}`)));
  });
  const find = (pattern) => text.match(pattern)[1];
  return {
    gateway: `http://${listen}`, token: find(/token \(dashboard\): *(\S+)/), simulators: find(/^Simulators +(https?:\/\/[^/\s]+)/m),
    stop: () => new Promise((resolve) => { process.removeAllListeners('exit'); process.on('exit', resolve); process.kill('SIGTERM'); }),
  };
}

let sand = await sandbox();
const server = await preview({ root: join(import.meta.dirname, '..'), logLevel: 'error' });
const origin = server.resolvedUrls.local[0].replace(/\/$/, '');
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });

async function api(query, variables) {
  const response = await fetch(`${sand.gateway}/graphql`, {
    method: 'POST', headers: { 'content-type': 'application/json', authorization: `Bearer ${sand.token}` }, body: JSON.stringify({ query, variables }),
  });
  const answer = await response.json();
  assert.equal(answer.errors, undefined, JSON.stringify(answer.errors));
  const [value] = Object.values(answer.data);
  assert.deepEqual(value.userErrors ?? [], []);
  return value;
}

// cpf makes a valid one whose eighth and ninth digits are the simulator's magic.
let serial = 0;
function cpf(magic) {
  const digits = [...`9${String(++serial).padStart(6, '0')}${magic}`].map(Number);
  for (let i = 0; i < 2; i++) {
    const sum = digits.reduce((s, d, at) => s + d * (digits.length + 1 - at), 0);
    digits.push(((sum * 10) % 11) % 10);
  }
  return digits.join('');
}

// picture is a JPEG that nobody else has.
const studio = await browser.newPage();
const picture = () => studio.evaluate(() => {
  const canvas = document.createElement('canvas');
  canvas.width = 640; canvas.height = 480;
  const c = canvas.getContext('2d');
  for (let i = 0; i < 40; i++) {
    c.fillStyle = `hsl(${Math.random() * 360} 60% 60%)`;
    c.fillRect(Math.random() * 640, Math.random() * 480, 120, 120);
  }
  return canvas.toDataURL('image/jpeg', 0.8).split(',')[1];
});

const register = (document) => api(`mutation($input: RegisterPersonInput!) { registerPerson(input: $input) { person { id } userErrors { code path } } }`, {
  input: {
    externalId: `example-${document}`, name: 'Maria da Silva', documentNumber: document, birthdate: '1990-02-28',
    emails: [{ address: 'maria@example.com' }], phones: [{ number: '+5511987654321', type: 'MOBILE' }],
    address: { street: 'Avenida Paulista', number: '1000', city: 'São Paulo', state: 'SP', postalCode: '01310-100', country: 'BRA' },
  },
}).then((p) => p.person.id);
const face = async (document) => api(`mutation($input: RegisterFaceInput!) { registerFace(input: $input) { faceRegistration { id } userErrors { code path } } }`,
  { input: { documentNumber: document, image: await picture() } });
const start = (mutation, type) => async (personId) => api(`mutation($input: ${type}!) { ${mutation}(input: $input) { process { id status } userErrors { code path } } }`,
  { input: { subject: { personId }, selfie: { image: await picture() } } });
const liveness = start('checkLiveness', 'CheckLivenessInput');
const identity = start('verifyIdentity', 'VerifyIdentityInput');

// open shows a person's page to that person.
async function open(personId, { transport = 'ws', locale = 'en-US' } = {}) {
  const { token } = await api(`mutation($input: CreateSubjectTokenInput!) { createSubjectToken(input: $input) { token userErrors { code path } } }`, { input: { personId } });
  const context = await browser.newContext({ locale, viewport: { width: 560, height: 420 } });
  const page = await context.newPage();
  const problems = [];
  page.on('pageerror', (e) => problems.push(String(e)));
  let loads = 0;
  page.on('load', () => { loads++; });
  const requests = new Set();
  page.on('request', (r) => requests.add(new URL(r.url()).origin));
  await page.goto(`${origin}/#${new URLSearchParams({ gateway: sand.gateway, token, transport })}`);
  const until = async (steps, action, state) => {
    try {
      await page.waitForFunction(([wanted, next, overall]) => Object.entries(wanted).every(([k, v]) => document.querySelector(`[data-step="${k}"]`)?.classList.contains(v))
        && (next === undefined || document.getElementById('next').dataset.action === next) && (overall === undefined || document.body.dataset.state === overall),
      [steps, action, state], { timeout: 30_000 });
    } catch (e) {
      throw new Error(`the page does not show ${JSON.stringify(steps)} ${action ?? ''}, but: ${await page.innerText('body')}`, { cause: e });
    }
  };
  return {
    page, until,
    async close() {
      const versions = await page.$$eval('#history .version', (all) => all.map((e) => Number(e.dataset.version)));
      versions.forEach((v, i) => assert.equal(v, versions[0] + i, `versions without a gap: ${versions}`));
      assert.equal(loads, 1, 'the page was loaded once');
      assert.deepEqual(problems, []);
      assert.deepEqual([...requests].filter((o) => o !== origin && o !== sand.gateway && !o.startsWith('ws') && o !== 'null'), [], 'nobody else was asked');
      await context.close();
      return versions;
    },
  };
}

async function scenario(name, run) {
  const began = Date.now();
  await run();
  console.log(`ok  ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
}

let failed = false;
try {
  for (const transport of ['ws', 'sse']) {
    await scenario(`a complete Brazilian onboarding, over ${transport}`, async () => {
      const document = cpf('00'), person = await register(document);
      const shown = await open(person, { transport });
      await shown.until({ PERSON: 'PASSED', FACE: 'MISSING', LIVENESS: 'MISSING', IDENTITY: 'MISSING' }, 'CAPTURE_FACE', 'IN_PROGRESS');
      await face(document);
      await shown.until({ FACE: 'PASSED' }, 'CAPTURE_FACE');
      await liveness(person);
      await shown.until({ LIVENESS: 'PASSED' }, 'CAPTURE_FACE');
      if (screenshot && transport === 'ws') await shown.page.screenshot({ path: screenshot });
      await identity(person);
      await shown.until({ PERSON: 'PASSED', FACE: 'PASSED', LIVENESS: 'PASSED', IDENTITY: 'PASSED' }, '', 'APPROVED');
      assert.match(await shown.page.innerText('#next'), /approved/);
      const versions = await shown.close();
      assert.ok(versions.length >= 4, `every step was seen: ${versions}`);
    });
  }
  await scenario('a rejection', async () => {
    const document = cpf('20'), person = await register(document);
    const shown = await open(person);
    await face(document);
    await liveness(person);
    await identity(person);
    await shown.until({ IDENTITY: 'FAILED' }, 'CONTACT_SUPPORT', 'REJECTED');
    await shown.close();
  });
  await scenario('a new capture is asked for, in Portuguese', async () => {
    const document = cpf('30'), person = await register(document);
    const shown = await open(person, { locale: 'pt-BR' });
    await face(document);
    await identity(person);
    await shown.until({ IDENTITY: 'ACTION_REQUIRED' }, 'NEW_CAPTURE', 'ACTION_REQUIRED');
    assert.match(await shown.page.innerText('#next'), /Tire uma nova foto/);
    await shown.close();
  });
  await scenario('an outage of the provider in the middle', async () => {
    const document = cpf('00'), person = await register(document);
    const shown = await open(person);
    await face(document);
    await fetch(`${sand.simulators}/unico/faults`, {
      method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify([{ operation: 'create_process', kind: 'rate_limit', value: 7, times: 1 }]),
    }).then((r) => assert.ok(r.ok, `faults: ${r.status}`));
    await liveness(person);
    await shown.until({ LIVENESS: 'PENDING' }, 'WAIT', 'IN_PROGRESS');
    assert.match(await shown.page.innerText('#next'), /wait/);
    await shown.until({ LIVENESS: 'PASSED' }, 'CAPTURE_FACE'); // by itself
    await identity(person);
    await shown.until({ IDENTITY: 'PASSED' }, '', 'APPROVED');
    await shown.close();
  });
  await scenario('the gateway is restarted', async () => {
    const document = cpf('00'), person = await register(document);
    const shown = await open(person);
    await shown.until({ PERSON: 'PASSED' }, 'CAPTURE_FACE');
    await sand.stop();
    await shown.page.waitForFunction(() => document.body.dataset.connection === 'lost', undefined, { timeout: 30_000 });
    sand = await sandbox();
    await face(document); // maybe before the page is back: it is told what it missed
    await shown.until({ FACE: 'PASSED' }, 'CAPTURE_FACE');
    await liveness(person);
    await identity(person);
    await shown.until({ IDENTITY: 'PASSED' }, '', 'APPROVED');
    await shown.close();
  });
  await scenario('a token that is no token', async () => {
    const page = await browser.newPage();
    await page.goto(`${origin}/#${new URLSearchParams({ gateway: sand.gateway, token: 'none' })}`);
    await page.waitForFunction(() => document.body.dataset.connection === 'ended', undefined, { timeout: 30_000 });
    await page.close();
  });
} catch (e) {
  console.error(e);
  failed = true;
} finally {
  await browser.close();
  await server.close();
  await sand.stop();
  await rm(data, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
