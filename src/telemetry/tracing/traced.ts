import {
  context,
  createContextKey,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Context,
  type Span as OtelSpan,
  type SpanContext,
  type Tracer,
} from "@opentelemetry/api";
import type { Facts, Span, Telemetry, Work } from "../../conversation/ports/telemetry.ts";
import { describeCommand, describeFacts, describeWork } from "./conventions.ts";
import { formatTraceparent, parseTraceparent } from "./traceparent.ts";

/** The span of ours that commands to Redis belong to. */
const ownSpan = createContextKey("parley.span");

/** A span has so many commands of its own, and counts the others. */
const mostCommands = 64;
/** Sent many times in a run, by its text and by the clock. */
const repeated: ReadonlySet<string> = new Set(["progress", "renew"]);

/** The same telemetry, which follows what is begun: as spans of `tracer`, one inside the other. */
export function traced(inner: Telemetry, tracer: Tracer): Telemetry {
  return {
    ...inner,
    begin(work) {
      const { name, kind, attributes } = describeWork(work);
      const parent = parentOf(work);
      const links = work.kind === "message" && work.within instanceof TracedSpan ? [work.within.link] : [];
      // A program that traces its HTTP server has a span of that kind around this one already.
      const isInner = work.kind === "request" && parent !== ROOT_CONTEXT && parent === context.active();
      const options = { kind: isInner ? SpanKind.INTERNAL : kind, attributes, links };
      return new TracedSpan(tracer.startSpan(name, options, parent), parent);
    },
    here() {
      const place = trace.getSpanContext(context.active());
      return place ? { traceId: place.traceId, spanId: place.spanId, traceparent: formatTraceparent(place) } : null;
    },
    redisCommand(name, isScript) {
      const told = inner.redisCommand(name, isScript);
      const owner = context.active().getValue(ownSpan);
      if (!(owner instanceof TracedSpan) || !owner.takeCommand(name)) return told;
      const { name: title, ...options } = describeCommand(name, isScript);
      const span = tracer.startSpan(title, options);
      return (failure) => {
        told(failure);
        if (failure !== null) {
          fail(span, failure);
          span.setAttribute("db.response.status_code", failure);
        }
        span.end();
      };
    },
  };
}

function parentOf(work: Work): Context {
  switch (work.kind) {
    case "request": {
      const active = context.active();
      // One of our own would be an earlier request's on the same connection.
      if (active.getValue(ownSpan) === undefined && trace.getSpanContext(active)) return active;
      return remote(parseTraceparent(work.headers.get("traceparent")));
    }
    case "message": {
      const given = parseTraceparent(work.given);
      return given || !(work.within instanceof TracedSpan) ? remote(given) : remote(work.within.origin);
    }
    case "run":
      return remote(parseTraceparent(work.origin));
    default:
      return context.active();
  }
}

function remote(origin: SpanContext | null): Context {
  return origin ? trace.setSpanContext(ROOT_CONTEXT, origin) : ROOT_CONTEXT;
}

class TracedSpan implements Span {
  /** Where the trace came from; null: it begins here. */
  readonly origin: SpanContext | null;
  readonly #span: OtelSpan;
  readonly #context: Context;
  #commands = 0;
  #untold = 0;
  #ended = false;

  constructor(span: OtelSpan, parent: Context) {
    this.#span = span;
    this.origin = trace.getSpanContext(parent) ?? null;
    this.#context = trace.setSpan(parent, span).setValue(ownSpan, this);
  }

  get link(): { readonly context: SpanContext } {
    return { context: this.#span.spanContext() };
  }

  inside<Result>(work: () => Result): Result {
    return context.with(this.#context, work);
  }

  tell(facts: Facts): void {
    if (facts.firstText === true) this.#span.addEvent("first text");
    this.#span.setAttributes(describeFacts(facts));
  }

  end(code: string): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#untold > 0) this.#span.setAttribute("parley.redis.commands_without_span", this.#untold);
    if (code !== "OK") fail(this.#span, code);
    this.#span.end();
  }

  /** Whether a command that is sent now gets a span: a subscription goes on to read long after its own has ended. */
  takeCommand(name: string): boolean {
    if (this.#ended || !this.#span.isRecording()) return false;
    if (!repeated.has(name) && this.#commands < mostCommands) {
      this.#commands++;
      return true;
    }
    this.#untold++;
    return false;
  }
}

function fail(span: OtelSpan, code: string): void {
  span.setAttribute("error.type", code);
  span.setStatus({ code: SpanStatusCode.ERROR });
}
