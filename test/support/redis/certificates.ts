import { generateKeyPairSync, randomBytes, sign, type KeyObject } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "./server-process.ts";

/** PEM files. The machine may have no openssl, and node's crypto makes keys and signatures but no certificates. */
export interface TestCertificates {
  /** Of an authority that nothing on this machine trusts. */
  readonly caFile: string;
  /** For localhost and 127.0.0.1, signed by it. */
  readonly certFile: string;
  readonly keyFile: string;
  /** Of a client, signed by it. */
  readonly clientCertFile: string;
  readonly clientKeyFile: string;
}

/** In a folder that goes with this process; good for an hour. */
export async function makeCertificates(): Promise<TestCertificates> {
  const directory = await temporaryDirectory();
  const authority = { name: "Parley test authority", ...newKeys() };
  const write = async (file: string, content: string) => {
    await writeFile(join(directory, file), content, { mode: 0o600 });
    return join(directory, file);
  };
  const issue = async (name: string) => {
    const { publicKey, privateKey } = newKeys();
    return [
      await write(`${name}.pem`, certificate(name, publicKey, authority, localNames)),
      await write(`${name}.key`, pemOf(privateKey)),
    ] as const;
  };
  const caFile = await write("ca.pem", certificate(authority.name, authority.publicKey, authority, isAuthority));
  const [certFile, keyFile] = await issue("server");
  const [clientCertFile, clientKeyFile] = await issue("client");
  return { caFile, certFile, keyFile, clientCertFile, clientKeyFile };
}

interface Issuer {
  readonly name: string;
  readonly privateKey: KeyObject;
}

function newKeys(): { readonly publicKey: KeyObject; readonly privateKey: KeyObject } {
  return generateKeyPairSync("ec", { namedCurve: "prime256v1" });
}

function pemOf(privateKey: KeyObject): string {
  return privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

// X.509 (RFC 5280) in DER: tag, length, content.

function der(tag: number, ...contents: readonly (Buffer | string)[]): Buffer {
  const content = Buffer.concat(contents.map((one) => Buffer.from(one)));
  const long = content.length.toString(16);
  const bytes = Buffer.from(long.length % 2 === 0 ? long : `0${long}`, "hex");
  const length =
    content.length < 128 ? Buffer.from([content.length]) : Buffer.concat([Buffer.from([0x80 + bytes.length]), bytes]);
  return Buffer.concat([Buffer.from([tag]), length, content]);
}

const sequence = (...contents: readonly Buffer[]) => der(0x30, ...contents);
const oid = (hex: string) => der(0x06, Buffer.from(hex, "hex"));
const ecdsaWithSha256 = sequence(oid("2a8648ce3d040302"));
const nameOf = (commonName: string) => sequence(der(0x31, sequence(oid("550403"), der(0x0c, commonName))));
const isTrue = der(0x01, Buffer.from([0xff]));
const isAuthority = sequence(oid("551d13"), isTrue, der(0x04, sequence(isTrue)));
const localNames = sequence(
  oid("551d11"),
  der(0x04, sequence(der(0x82, "localhost"), der(0x87, Buffer.from([127, 0, 0, 1])))),
);

/** UTCTime. */
function timeOf(milliseconds: number): Buffer {
  return der(0x17, `${new Date(milliseconds).toISOString().replace(/[-:T]/g, "").slice(2, 14)}Z`);
}

function certificate(name: string, publicKey: KeyObject, issuer: Issuer, extension: Buffer): string {
  const hour = 3_600_000;
  const signed = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    ecdsaWithSha256,
    nameOf(issuer.name),
    sequence(timeOf(Date.now() - hour), timeOf(Date.now() + hour)),
    nameOf(name),
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, sequence(extension)),
  );
  const signature = sign("sha256", signed, issuer.privateKey);
  const whole = sequence(signed, ecdsaWithSha256, der(0x03, Buffer.from([0]), signature));
  const lines = whole.toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n");
}
