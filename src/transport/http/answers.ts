import { GraphQLError } from "graphql";
import type { Exchange } from "../../operations/exchange.ts";
import type { RequestHeaders } from "../../operations/identity.ts";
import { answerConsole, consolePath } from "./pages/console.ts";
import { graphiqlPage } from "./pages/graphiql.ts";
import { healthz, readyz } from "./pages/health.ts";
import type { Readiness } from "./pages/health.ts";
import { agUiPath } from "./ag-ui/endpoint.ts";
import { acceptedBy, createOperationAnswers } from "./http.ts";
import type { AnswerOperation } from "./http.ts";
import { endpointPath } from "../../operations/yoga-engine.ts";
import type { TransportParts } from "../parts.ts";
import { tooManySockets } from "../guard/guard.ts";
import type { ClientAddress } from "../guard/guard.ts";
import { metricsPage } from "./pages/metrics-endpoint.ts";
import type { MetricsSource } from "./pages/metrics-endpoint.ts";
import type { Page } from "./pages/page.ts";
import { answerOptions, corsHeaders } from "./origins.ts";
import { payloadTooLarge, refusal } from "../../operations/refusals.ts";
import { isPage } from "./security-headers.ts";
import { isStream } from "./streams.ts";
import { PlainAnswer, refusalAnswer } from "./plain-answer.ts";

/** What is known of a request before its body is read. */
interface Incoming {
  readonly method: string;
  /** Absolute. */
  readonly url: string;
  /** As it was sent: who closes paths at a proxy closes them for "/x/../metrics" too, which is no path of ours. */
  readonly pathname: string;
  readonly headers: RequestHeaders;
  readonly address: ClientAddress;
  /** Reads the body; null: it is too long. */
  readonly read: () => Promise<string | null>;
}

interface Pages {
  readonly ready: () => Promise<Readiness>;
  /** null: there is no such page. */
  readonly metrics: MetricsSource | null;
  readonly graphiql: boolean;
  /** null: there is no such page. */
  readonly console: Page | null;
  /** null: there is no such endpoint. */
  readonly agUi: AnswerOperation | null;
}

export type Answer = (incoming: Incoming, exchange: Exchange) => Promise<Response | PlainAnswer>;

/** From a request to its answer, whoever brought it: the pages, and on `path` who is let in, what is read of it and what is executed. */
export function createAnswers(parts: TransportParts, { ready, metrics, graphiql, console, agUi }: Pages): Answer {
  const { operations, guard, security, telemetry, isDraining, origins, limits } = parts;
  const answerOperation = createOperationAnswers(parts);
  const start = console !== null ? consolePath : graphiql ? endpointPath : null;

  return respond;

  async function respond(given: Incoming, exchange: Exchange): Promise<Response | PlainAnswer> {
    const isHead = given.method === "HEAD";
    const incoming = isHead ? { ...given, method: "GET" } : given;
    let answer = await route(incoming, exchange);
    if (!(answer instanceof PlainAnswer) && isPage(answer.headers)) {
      const page = (incoming.pathname === consolePath ? console : null) ?? graphiqlPage;
      answer = await page.dress(answer, incoming.headers);
    }
    security.add(answer.headers);
    return isHead && !(answer instanceof PlainAnswer) && isStream(answer) ? await headOfStream(answer) : answer;
  }

  /** A stream without a body is over at once. */
  async function headOfStream({ status, headers, body }: Response): Promise<Response> {
    await body?.cancel();
    return new Response(null, { status, headers });
  }

  async function route(incoming: Incoming, exchange: Exchange): Promise<Response | PlainAnswer> {
    const { method, headers, pathname } = incoming;
    if (pathname === "/healthz") return healthz();
    if (pathname === "/readyz") return await readyz(isDraining(), ready);
    if (pathname === "/metrics" && metrics !== null) return await metricsPage(method, headers, metrics);
    if (pathname === "/" && start !== null) return new Response(null, { status: 302, headers: { location: start } });
    if (pathname === consolePath && console !== null) return await answerConsole(console, method);
    const operation = pathname === endpointPath ? answerOperation : pathname === agUiPath ? agUi : null;
    if (operation === null) return new Response("Not found\n", { status: 404 });
    const answer = answerOptions(method, headers, origins) ?? (await operateFollowed(incoming, exchange, operation));
    for (const [name, value] of Object.entries(corsHeaders(headers, origins))) answer.headers.set(name, value);
    return answer;
  }

  /** Until there is an answer; a stream's is there when it is open. */
  async function operateFollowed(
    incoming: Incoming,
    exchange: Exchange,
    operation: AnswerOperation,
  ): Promise<Response | PlainAnswer> {
    const { method, headers, pathname } = incoming;
    const span = telemetry.begin({ kind: "request", method, path: pathname, headers });
    let status = 500;
    try {
      const answer = await span.inside(() => operate(incoming, exchange, operation));
      ({ status } = answer);
      return answer;
    } finally {
      span.tell({ status });
      span.end(status >= 500 ? String(status) : "OK");
    }
  }

  async function operate(
    incoming: Incoming,
    exchange: Exchange,
    operation: AnswerOperation,
  ): Promise<Response | PlainAnswer> {
    const { method, headers } = incoming;
    const accepted = acceptedBy(headers);
    const refuse = (error: GraphQLError) => refusalAnswer(error, accepted.json ?? "application/json");
    // Too much, and who may not in, is told so before anything is read. A GET without an operation may be GraphiQL's page.
    const tooMuch = guard.request(incoming.address);
    if (tooMuch !== null) return refuse(tooMuch);
    const asks = method === "POST" || incoming.url.includes("?");
    const refused = asks ? await operations.refuse(exchange) : null;
    if (refused !== null) {
      telemetry.refused(String(refused.extensions["code"]));
      return refuse(refused);
    }
    const streams = accepted.streams || operation === agUi;
    if (asks && streams && !(await takesPlace(incoming, exchange))) {
      return refuse(tooManySockets());
    }
    return await execute(incoming, exchange, operation, refuse);
  }

  /** What may become a stream counts as one until its exchange ends. */
  async function takesPlace({ address }: Incoming, exchange: Exchange): Promise<boolean> {
    const { viewer } = await exchange.identity();
    for (const leave of [guard.socketFrom(address), guard.socketOf(viewer)]) {
      if (leave === null) return false;
      exchange.onEnd(leave);
    }
    return true;
  }

  async function execute(
    incoming: Incoming,
    exchange: Exchange,
    operation: AnswerOperation,
    refuse: (error: GraphQLError) => PlainAnswer,
  ): Promise<Response | PlainAnswer> {
    const { method, headers } = incoming;
    let body: string | null = null;
    if (method === "POST") {
      // What is small on the wire may be endless when it is unpacked.
      if ((headers.get("content-encoding") ?? "identity").toLowerCase() !== "identity") {
        telemetry.refused("UNSUPPORTED_MEDIA_TYPE");
        return refuse(refusal(415, "UNSUPPORTED_MEDIA_TYPE", "Request bodies are taken as they are, not compressed."));
      }
      body = await incoming.read();
      if (body === null) {
        telemetry.refused("PAYLOAD_TOO_LARGE");
        return refusalAnswer(payloadTooLarge(limits.maxBodyBytes));
      }
    }
    const place = guard.operation();
    if (place instanceof GraphQLError) return refuse(place);
    exchange.place = place;
    try {
      return await operation({ ...incoming, body }, exchange);
    } finally {
      place.leave();
    }
  }
}
