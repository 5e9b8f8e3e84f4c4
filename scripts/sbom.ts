/** `npm run sbom [-- FILE]`: what an installed Parley consists of, as CycloneDX (JSON). It needs the lockfile alone, no network. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const from = (name: string) => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), "utf8")) as unknown;
const [file = "sbom.cdx.json"] = process.argv.slice(2);

interface Manifest {
  readonly name?: string;
  readonly devDependencies?: unknown;
}
interface Lock {
  readonly packages: Readonly<
    Record<string, Manifest & { readonly dev?: true; readonly devOptional?: true; readonly link?: true }>
  >;
}
const manifest = from("package.json") as Manifest; // npm's form, as the next
const lock = from("package-lock.json") as Lock;

// `npm sbom --omit dev` leaves out what a development dependency needs too (two thirds, ioredis and graphql among them),
// so npm gets a project that has none.
const folder = mkdtempSync(join(tmpdir(), "parley-sbom-"));
try {
  const packages = Object.fromEntries(
    Object.entries(lock.packages).filter(
      // The client is a package of its own, with nothing that it depends on.
      ([path, { dev, devOptional, link }]) => !(dev ?? devOptional ?? link) && !path.startsWith("packages/"),
    ),
  );
  const write = (name: string, value: unknown) => writeFileSync(join(folder, name), JSON.stringify(value));
  write("package.json", { ...manifest, devDependencies: undefined, workspaces: undefined });
  write("package-lock.json", {
    ...lock,
    packages: { ...packages, "": { ...packages[""], devDependencies: undefined, workspaces: undefined } },
  });
  const args = ["sbom", "--sbom-format=cyclonedx", "--sbom-type=application", "--package-lock-only"];
  const text = execFileSync("npm", args, { cwd: folder, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  const sbom = JSON.parse(text) as { metadata: { component: { name: string } } }; // CycloneDX
  // npm gives it the name of the folder.
  if (manifest.name !== undefined) sbom.metadata.component.name = manifest.name;
  writeFileSync(file, `${JSON.stringify(sbom, null, 2)}\n`);
  console.log(`${file} written.`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
