import { Client, fetchExchange, gql, subscriptionExchange } from '@urql/core';
import { createClient as createEvents } from 'graphql-sse';
import { createClient as createSocket } from 'graphql-ws';

export interface Step {
  kind: string;
  status: 'MISSING' | 'PENDING' | 'ACTION_REQUIRED' | 'IN_REVIEW' | 'PASSED' | 'FAILED';
  required: boolean;
}

export interface Onboarding {
  state: 'NOT_STARTED' | 'IN_PROGRESS' | 'ACTION_REQUIRED' | 'IN_REVIEW' | 'APPROVED' | 'REJECTED';
  version: number;
  nextAction: { kind: string; step: string | null; message: string } | null;
  steps: Step[];
}

export interface Settings {
  gateway: string; // http://127.0.0.1:8080
  token: string; // of createSubjectToken
  transport: 'ws' | 'sse';
}

export type Connection = 'connecting' | 'live' | 'lost' | 'ended';

const WHO = gql`{ viewer { person { id } } }`;
const FOLLOW = gql`
  subscription Follow($personId: ID!, $sinceVersion: Int) {
    onboardingUpdated(personId: $personId, sinceVersion: $sinceVersion) {
      state version nextAction { kind step message } steps { kind status required }
    }
  }`;

// The page's own languages, for the messages. A page may choose a header of a request and none of a WebSocket.
const languages = () => navigator.languages.join(',').slice(0, 200);

function clientFor({ gateway, token, transport }: Settings): Client {
  const url = `${gateway}/graphql`;
  const headers = { authorization: `Bearer ${token}`, 'accept-language': languages() };
  const source = transport === 'sse'
    ? createEvents({ url, headers, retryAttempts: 0 })
    : createSocket({
      url: url.replace(/^http/, 'ws'),
      connectionParams: { authorization: headers.authorization, acceptLanguage: headers['accept-language'] },
      retryAttempts: 0, // we come back ourselves, with the last version we have seen
    });
  return new Client({
    url,
    preferGetMethod: false,
    fetchOptions: { headers },
    exchanges: [fetchExchange, subscriptionExchange({
      forwardSubscription: ({ query, variables }) => ({
        subscribe: (sink) => ({
          unsubscribe: source.subscribe({ query: query ?? '', variables }, {
            next: (result) => sink.next(result as never),
            error: (cause) => sink.error(cause),
            complete: () => sink.complete(),
          }),
        }),
      }),
    })],
  });
}

// expired tells the end of a token from a network that is gone: HTTP 401, or the close codes 4401 and 4403.
function expired(cause: unknown): boolean {
  const e = cause as { code?: number; response?: { status?: number }; networkError?: unknown; graphQLErrors?: { extensions?: { code?: string } }[] } | undefined;
  if (!e || typeof e !== 'object') return false;
  return e.code === 4401 || e.code === 4403 || e.response?.status === 401
    || (e.graphQLErrors ?? []).some((g) => g.extensions?.code === 'UNAUTHENTICATED')
    || (e.networkError !== undefined && expired(e.networkError));
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

// follow tells every version of the onboarding of whom the token is about, once and in order, for as long as the token lasts. When the
// connection breaks it comes back and names the last version it has seen, so nothing is missed and nothing is told twice.
export async function follow(settings: Settings, onChange: (o: Onboarding) => void, onConnection: (c: Connection) => void): Promise<void> {
  let personId: string | undefined;
  let seen: number | undefined;
  for (let failures = 0; ; failures++) {
    onConnection(failures === 0 ? 'connecting' : 'lost');
    const client = clientFor(settings);
    if (!personId) {
      const who = await client.query(WHO, {}, { requestPolicy: 'network-only' }).toPromise();
      if (expired(who.error)) return onConnection('ended');
      personId = who.data?.viewer.person?.id as string | undefined;
      if (!personId && !who.error) return onConnection('ended'); // the person is gone
    }
    if (personId) {
      const end = await new Promise<unknown>((resolve) => {
        const following = client.subscription(FOLLOW, { personId, sinceVersion: seen }).subscribe((result) => {
          const o = result.data?.onboardingUpdated as Onboarding | undefined;
          if (o && (seen === undefined || o.version > seen)) {
            seen = o.version;
            failures = 0;
            onConnection('live');
            onChange(o);
          }
          if (result.error || !result.hasNext) {
            queueMicrotask(() => following.unsubscribe());
            resolve(result.error);
          }
        });
      });
      if (expired(end)) return onConnection('ended');
    }
    onConnection('lost');
    await sleep(Math.min(10_000, 250 * 2 ** failures) * (0.5 + Math.random() / 2));
  }
}
