import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

// Whether the examples run shows `npm run examples`, which installs them. Here is what can be told without that.

interface Manifest {
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

interface Lockfile {
  readonly packages: Readonly<Record<string, Manifest & { readonly resolved?: string; readonly integrity?: string }>>;
}

const root = new URL("../../", import.meta.url);
const read = (path: string) => JSON.parse(readFileSync(new URL(path, root), "utf8")) as unknown;
const names = readdirSync(new URL("examples", root)).filter((name) =>
  existsSync(new URL(`examples/${name}/package.json`, root)),
);
const ours = new Map([
  ["parley-gateway", read("package.json") as Manifest],
  ["parley-client", read("packages/client/package.json") as Manifest],
]);

test.each(names)(
  "the example %s has exact versions, and a lockfile that fits them, names no registry and has our packages as they are",
  (name) => {
    const { dependencies = {}, devDependencies = {} } = read(`examples/${name}/package.json`) as Manifest;
    const { packages } = read(`examples/${name}/package-lock.json`) as Lockfile; // all of them are ours;
    expect(packages[""]).toMatchObject({ dependencies });
    expect(packages[""]?.devDependencies ?? {}).toEqual(devDependencies);
    for (const [dependency, version] of Object.entries({ ...dependencies, ...devDependencies })) {
      const own = ours.get(dependency);
      const locked = packages[`node_modules/${dependency}`];
      if (own === undefined) {
        expect([dependency, version]).toEqual([dependency, locked?.version]);
        continue;
      }
      const tarball = `file:../${dependency}-${own.version}.tgz`;
      expect([dependency, version]).toEqual([dependency, tarball]);
      // A tarball is another one after each change to what it holds.
      expect(locked).toMatchObject({ version: own.version, resolved: tarball });
      expect(locked).not.toHaveProperty("integrity");
      expect(locked?.dependencies ?? {}).toEqual(own.dependencies ?? {});
    }
    const resolved = Object.values(packages).map((locked) => locked.resolved ?? "file:");
    expect(resolved.filter((address) => !address.startsWith("file:"))).toEqual([]);
  },
);

test("each example has a README, and stands in the list of examples/README.md", () => {
  const list = readFileSync(new URL("examples/README.md", root), "utf8");
  const folders = readdirSync(new URL("examples", root), { withFileTypes: true }).filter((entry) =>
    entry.isDirectory(),
  );
  for (const { name } of folders) expect(list).toContain(`](${name})`);
  for (const name of names) expect(existsSync(new URL(`examples/${name}/README.md`, root))).toBe(true);
});
