import { SignJWT, UnsecuredJWT, exportSPKI, importJWK } from "jose";
import { describe, expect, test } from "vitest";

import { ParleyError } from "../../src/conversation/errors.ts";
import { jwtVerifier } from "../../src/transport/auth/jwt.ts";
import type { JwtOptions } from "../../src/config/auth.ts";
import { createSigner, secret, startKeySet, tokenFor } from "../support/gateway/tokens.ts";

const rules = { issuer: null, audience: null, clockSkewSeconds: 5 };
const bySecret = (more: Partial<JwtOptions> = {}) => jwtVerifier({ key: { secret }, ...rules, ...more });
const byKeys = (jwksUrl: string, more: Partial<JwtOptions> = {}) =>
  jwtVerifier({ key: { jwksUrl }, ...rules, ...more });

/** The code and words of a refusal. */
async function refusal(answer: Promise<unknown>): Promise<string> {
  const error: unknown = await answer.then(
    () => null,
    (cause: unknown) => cause,
  );
  if (!(error instanceof ParleyError)) throw new Error("It was not refused", { cause: error });
  return `${error.code} ${error.message}`;
}
const refused = "UNAUTHENTICATED These credentials are not valid, or no longer. Sign in again.";

describe("a token that is signed with the secret", () => {
  test("gives the subject, its scopes and the time of expiry", async () => {
    const exp = Math.floor(Date.now() / 1000) + 60;
    const token = await tokenFor("jim", { scope: "chat:read  admin", claims: { exp } });
    expect(await bySecret()(token)).toEqual({
      viewer: { subject: "jim", scopes: ["chat:read", "admin"], sessions: ["jim:*"], granted: false, models: null },
      expiresAt: exp * 1000,
    });
  });

  test("may name its sessions, as a list or as one pattern", async () => {
    const { viewer } = await bySecret()(await tokenFor("jim", { sessions: ["team-*", "jim"] }));
    expect(viewer).toMatchObject({ sessions: ["team-*", "jim"], granted: true });
    expect((await bySecret()(await tokenFor("jim", { claims: { sessions: "a*" } }))).viewer.sessions).toEqual(["a*"]);
    expect((await bySecret()(await tokenFor("jim", { sessions: [] }))).viewer.sessions).toEqual([]);
  });

  test("may name its models, as a list or as one pattern; an empty list is none", async () => {
    const modelsOf = async (models: unknown) =>
      (await bySecret()(await tokenFor("jim", { claims: { models } }))).viewer.models;
    expect(await modelsOf(["openai:*", "agent:helper"])).toEqual(["openai:*", "agent:helper"]);
    expect(await modelsOf("agent:*")).toEqual(["agent:*"]);
    expect(await modelsOf([])).toEqual([]);
    expect(await modelsOf(null)).toBeNull();
  });

  test("allows nothing without a scope; scopes may be a list", async () => {
    expect((await bySecret()(await tokenFor("jim", { scope: null }))).viewer.scopes).toEqual([]);
    const listed = await tokenFor("jim", { claims: { scope: ["chat:read"] } });
    expect((await bySecret()(listed)).viewer.scopes).toEqual(["chat:read"]);
  });

  test("never expires if it has no exp", async () => {
    expect((await bySecret()(await tokenFor("jim", { livesSeconds: null }))).expiresAt).toBeNull();
  });

  test.each([
    ["sessions of another form", { claims: { sessions: { all: true } } }],
    ["sessions that are no texts", { claims: { sessions: [1] } }],
    ["an empty pattern", { sessions: [""] }],
    ["models of another form", { claims: { models: { all: true } } }],
    ["an empty pattern of models", { claims: { models: [""] } }],
    ["a pattern too long", { sessions: ["a".repeat(513)] }],
    ["an end behind it", { livesSeconds: -30 }],
    ["a beginning before it", { claims: { nbf: Math.floor(Date.now() / 1000) + 60 } }],
  ])("is refused for %s", async (_what, options) => {
    expect(await refusal(bySecret()(await tokenFor("jim", options)))).toBe(refused);
  });

  test.each(["", "*", "a*", "anonymous", "a\nb", "x".repeat(256), "\ud800"])(
    "is refused with the subject %j",
    async (subject) => {
      expect(await refusal(bySecret()(await tokenFor(subject)))).toBe(refused);
    },
  );

  test("must name a subject", async () => {
    const nameless = await new SignJWT({ scope: "admin" })
      .setProtectedHeader({ alg: "HS256" })
      .sign(new TextEncoder().encode(secret));
    expect(await refusal(bySecret()(nameless))).toBe(refused);
  });

  test("is valid for the allowed clock difference after its exp, and not longer", async () => {
    const exp = Math.floor(Date.now() / 1000) - 3;
    const token = await tokenFor("jim", { claims: { exp } });
    expect((await bySecret({ clockSkewSeconds: 60 })(token)).expiresAt).toBe((exp + 60) * 1000);
    expect(await refusal(bySecret({ clockSkewSeconds: 0 })(token))).toBe(refused);
    const early = await tokenFor("jim", { claims: { nbf: Math.floor(Date.now() / 1000) + 30 } });
    expect((await bySecret({ clockSkewSeconds: 60 })(early)).viewer.subject).toBe("jim");
  });

  test("must have the configured issuer and audience", async () => {
    const verify = bySecret({ issuer: "https://login.example/", audience: "chat" });
    const good = { iss: "https://login.example/", aud: ["other", "chat"] };
    expect((await verify(await tokenFor("jim", { claims: good }))).viewer.subject).toBe("jim");
    for (const claims of [{}, { ...good, iss: "https://evil.example/" }, { ...good, aud: "other" }, { aud: "chat" }]) {
      expect(await refusal(verify(await tokenFor("jim", { claims })))).toBe(refused);
    }
  });

  test.each(["", "x", "a.b.c", "..", "e30.e30.e30", "Bearer", `${"a".repeat(10_000)}.b.c`])(
    "%.20s is refused",
    async (token) => {
      expect(await refusal(bySecret()(token))).toBe(refused);
    },
  );

  test("is refused with another secret, an altered claim, another algorithm or no algorithm", async () => {
    const verify = bySecret();
    const other = await new SignJWT({ sub: "jim" })
      .setProtectedHeader({ alg: "HS256" })
      .sign(new TextEncoder().encode(`${secret}.`));
    const [head = "", , signature = ""] = (await tokenFor("jim")).split(".");
    const altered = [head, Buffer.from('{"sub":"ann"}').toString("base64url"), signature].join(".");
    const stronger = await new SignJWT({ sub: "jim" })
      .setProtectedHeader({ alg: "HS512" })
      .sign(new TextEncoder().encode(secret));
    const unsigned = new UnsecuredJWT({ sub: "jim" }).encode();
    const rs256 = await (await createSigner("RS256", "a")).token("jim");
    for (const token of [other, altered, stronger, unsigned, rs256]) expect(await refusal(verify(token))).toBe(refused);
  });
});

describe("a token of an issuer with a key set", () => {
  test.each(["RS256", "PS256", "ES256", "ES384", "EdDSA"])("is valid if it is signed with %s", async (alg) => {
    const signer = await createSigner(alg, "a");
    await using keySet = await startKeySet([signer.publicJwk]);
    const verify = byKeys(keySet.url);
    expect((await verify(await signer.token("jim"))).viewer.subject).toBe("jim");
    expect((await verify(await signer.token("ann", {}, null))).viewer.subject).toBe("ann");
    expect(keySet.fetched).toBe(1);
    expect(await refusal(verify(await signer.token("jim", { livesSeconds: -30 })))).toBe(refused);
  });

  test("is valid as soon as its key is published, and invalid once the key is withdrawn", async () => {
    const [old, next] = await Promise.all([createSigner("ES256", "old"), createSigner("ES256", "next")]);
    await using keySet = await startKeySet([old.publicJwk]);
    const verify = byKeys(keySet.url);
    expect((await verify(await old.token("jim"))).viewer.subject).toBe("jim");
    keySet.keys = [next.publicJwk];
    const subjects = await Promise.all(
      [1, 2, 3].map(async () => (await verify(await next.token("jim"))).viewer.subject),
    );
    expect(subjects).toEqual(["jim", "jim", "jim"]);
    expect(keySet.fetched).toBe(2);
    expect(await refusal(verify(await old.token("jim")))).toBe(refused);
  });

  test("many tokens with unknown keys cause few requests to the issuer", async () => {
    const signer = await createSigner("ES256", "a");
    await using keySet = await startKeySet([signer.publicJwk]);
    const verify = byKeys(keySet.url);
    const tokens = await Promise.all(Array.from({ length: 50 }, (_, i) => signer.token("jim", {}, `unknown ${i}`)));
    const answers = await Promise.all(tokens.map((token) => refusal(verify(token))));
    expect(new Set(answers)).toEqual(new Set([refused]));
    expect(keySet.fetched).toBeLessThanOrEqual(3);
  });

  test("is valid with either of two keys if it does not name one", async () => {
    const [one, two, stranger] = await Promise.all(["a", "b", "c"].map((kid) => createSigner("ES256", kid)));
    if (!one || !two || !stranger) throw new Error("Three signers were made");
    await using keySet = await startKeySet([one.publicJwk, two.publicJwk]);
    const verify = byKeys(keySet.url);
    expect((await verify(await one.token("jim", {}, null))).viewer.subject).toBe("jim");
    expect((await verify(await two.token("ann", {}, null))).viewer.subject).toBe("ann");
    expect(await refusal(verify(await stranger.token("eve", {}, null)))).toBe(refused);
    expect(await refusal(verify(await two.token("jim", { livesSeconds: -30 }, null)))).toBe(refused);
  });

  test("a public key is no secret: neither HS256 with it nor no signature at all", async () => {
    const signer = await createSigner("RS256", "a");
    await using keySet = await startKeySet([signer.publicJwk]);
    const verify = byKeys(keySet.url);
    const publicKey = await importJWK(signer.publicJwk, "RS256", { extractable: true });
    if (publicKey instanceof Uint8Array) throw new Error("An RSA key is no bytes");
    const pem = await exportSPKI(publicKey);
    for (const text of [pem, JSON.stringify(signer.publicJwk), signer.publicJwk.n ?? ""]) {
      const confused = await new SignJWT({ sub: "jim" })
        .setProtectedHeader({ alg: "HS256", kid: "a" })
        .sign(new TextEncoder().encode(text));
      expect(await refusal(verify(confused))).toBe(refused);
    }
    expect(await refusal(verify(new UnsecuredJWT({ sub: "jim" }).encode()))).toBe(refused);
    // A key that the token brings along itself is nobody's.
    const stranger = await createSigner("RS256", "a");
    const own = await new SignJWT({ sub: "jim" })
      .setProtectedHeader({ alg: "RS256", jwk: stranger.publicJwk, jku: "http://evil.example/" })
      .sign(stranger.privateKey);
    expect(await refusal(verify(own))).toBe(refused);
  });

  test("while the issuer's keys cannot be fetched, nobody is signed out", async () => {
    const signer = await createSigner("ES256", "a");
    await using keySet = await startKeySet([signer.publicJwk]);
    keySet.broken = true;
    const verify = byKeys(keySet.url);
    expect(await refusal(verify(await signer.token("jim")))).toMatch(/^STORE_UNAVAILABLE /);
    expect(await refusal(verify(await tokenFor("jim")))).toBe(refused);
    keySet.broken = false;
    expect((await verify(await signer.token("jim"))).viewer.subject).toBe("jim");
  });

  test("a key set that cannot be fetched is reported once; a set that is too large counts as one that cannot be fetched", async () => {
    const signer = await createSigner("ES256", "a");
    await using keySet = await startKeySet([{ ...signer.publicJwk, x5c: ["x".repeat(2_000_000)] }]);
    const told: unknown[] = [];
    const verify = jwtVerifier({ key: { jwksUrl: keySet.url }, ...rules }, (cause) => told.push(cause));
    for (let i = 0; i < 3; i++) expect(await refusal(verify(await signer.token("jim")))).toMatch(/^STORE_UNAVAILABLE /);
    expect(told.map(String)).toEqual(["Error: The key set has more than 1048576 bytes"]);
    keySet.keys = [signer.publicJwk];
    expect((await verify(await signer.token("jim"))).viewer.subject).toBe("jim");
  });
});
