import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/redis/server-process.ts";

interface Component {
  readonly "bom-ref": string;
  readonly type: string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
}

interface Bom {
  readonly bomFormat: string;
  readonly specVersion: string;
  readonly serialNumber: string;
  readonly version: number;
  readonly metadata: { readonly timestamp: string; readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn?: readonly string[] }[];
}

test("npm run sbom lists in CycloneDX the packages that are installed with Parley, without a network", async () => {
  const file = join(await temporaryDirectory(), "sbom.json");
  const script = fileURLToPath(new URL("../../scripts/sbom.ts", import.meta.url));
  // Nobody answers at that registry.
  execFileSync(process.execPath, [script, file], {
    env: { ...process.env, npm_config_registry: "http://127.0.0.1:9" },
  });
  const bom = JSON.parse(readFileSync(file, "utf8")) as Bom; // its form is what is tested

  expect(bom.bomFormat).toBe("CycloneDX");
  expect(bom.specVersion).toMatch(/^1\.[5-9]$/);
  expect(bom.serialNumber).toMatch(
    /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
  expect(bom.version).toBe(1);
  expect(Date.parse(bom.metadata.timestamp)).not.toBeNaN();
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  }; // our own
  expect(bom.metadata.component).toMatchObject({
    type: "application",
    name: "parley-gateway",
    version: manifest.version,
    purl: `pkg:npm/parley-gateway@${manifest.version}`,
  });
  const refs = new Set(bom.components.map((one) => one["bom-ref"]));
  expect(refs.size).toBe(bom.components.length);
  for (const one of bom.components) {
    expect(one.purl, one.name).toBe(`pkg:npm/${one.name.replace("@", "%40")}@${one.version}`);
    expect(one.type).toBe("library");
    expect(one.hashes?.[0], one.name).toMatchObject({ alg: "SHA-512" });
  }
  // Each reference leads somewhere.
  const known = new Set([...refs, bom.metadata.component["bom-ref"]]);
  const mentioned = bom.dependencies.flatMap(({ ref, dependsOn = [] }) => [ref, ...dependsOn]);
  expect(mentioned.filter((ref) => !known.has(ref))).toEqual([]);
  const own = bom.dependencies.find(({ ref }) => ref === bom.metadata.component["bom-ref"]);
  const direct = Object.entries(manifest.dependencies).map(([name, version]) => `${name}@${version}`);
  expect([...(own?.dependsOn ?? [])].sort()).toEqual(expect.arrayContaining(direct.sort()));
  expect([...refs]).toEqual(expect.arrayContaining(direct));
  const development = ["vitest", "eslint", "typescript", "prettier", "node"];
  const names = new Set(bom.components.map(({ name }) => name));
  expect(development.filter((name) => names.has(name))).toEqual([]);
});
