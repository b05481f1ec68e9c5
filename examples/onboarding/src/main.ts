import './style.css';
import { follow, type Connection, type Onboarding, type Step } from './onboarding';

const $ = (id: string) => document.getElementById(id)!;

// The partner's back end makes the token (createSubjectToken) and sends its user here with it behind the #, which no server is told.
const given = new URLSearchParams(location.hash.slice(1));
const gateway = given.get('gateway') ?? 'http://127.0.0.1:8080';
const token = given.get('token') ?? '';

const titles: Record<string, string> = {
  PERSON: 'Your data', FACE: 'Your face', LIVENESS: 'Liveness', IDENTITY: 'Identity', FACE_VALIDATION: 'Face comparison',
  DOCUMENT: 'Your document', CIP: 'Account check', CUSTOMER: 'Your account',
};
const words: Record<Step['status'], string> = {
  MISSING: 'to do', PENDING: 'being checked', ACTION_REQUIRED: 'needs you', IN_REVIEW: 'in review', PASSED: 'done', FAILED: 'refused',
};
const connections: Record<Connection, string> = {
  connecting: 'Connecting…', live: '', lost: 'The connection was lost. We are trying again…', ended: 'This link is no longer valid. Ask for a new one.',
};

function element(tag: string, className: string, text = ''): HTMLElement {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text; // never as HTML
  return e;
}

function show(o: Onboarding): void {
  document.body.dataset.state = o.state;
  document.body.dataset.version = String(o.version);
  $('next').replaceChildren(o.nextAction
    ? element('p', `action ${o.nextAction.kind}`, o.nextAction.message)
    : element('p', 'action DONE', 'You are approved.'));
  $('next').dataset.action = o.nextAction?.kind ?? '';
  $('steps').replaceChildren(...o.steps.map((s) => {
    const line = element('li', `step ${s.status}`);
    line.dataset.step = s.kind;
    line.append(element('span', 'title', titles[s.kind] ?? s.kind), element('span', 'status', words[s.status] ?? s.status));
    return line;
  }));
  const line = element('li', 'version', `${new Date().toLocaleTimeString()} ${o.state} ${o.steps.map((s) => `${s.kind} ${s.status}`).join(', ')}`);
  line.dataset.version = String(o.version);
  $('history').append(line);
}

function connected(c: Connection): void {
  document.body.dataset.connection = c;
  $('connection').textContent = connections[c];
}

if (token) {
  void follow({ gateway, token, transport: given.get('transport') === 'sse' ? 'sse' : 'ws' }, show, connected);
} else {
  connected('ended');
}
