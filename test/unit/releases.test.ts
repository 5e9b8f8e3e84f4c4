import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { Script } from "node:vm";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { loadConfig } from "../../src/config/load.ts";

// There is no container engine where the tests run: these hold the files against what they promise.

const root = new URL("../../", import.meta.url);
const textOf = (file: string) => readFileSync(new URL(file, root), "utf8");

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly scripts: { readonly start: string };
}
const manifest = JSON.parse(textOf("package.json")) as Manifest; // our own
const exact = /^\d+\.\d+\.\d+$/;

interface Service {
  readonly image?: string;
  readonly build?: string;
  readonly user?: string;
  readonly privileged?: boolean;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly cap_add?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly tmpfs?: readonly string[];
  readonly pids_limit?: number;
  readonly restart?: string;
  readonly network_mode?: string;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  /** Strings, if it is as it should be. */
  readonly healthcheck?: { readonly test: readonly unknown[] };
  readonly environment?: Readonly<Record<string, string>>;
}

function services(): readonly (readonly [string, Service])[] {
  // Each Redis node is an alias of the one before; the limit is against files of strangers.
  const file = parse(textOf("docker-compose.yml"), { merge: true, maxAliasCount: -1 }) as {
    services: Record<string, Service>; // Compose's form, as far as it is looked at here
  };
  return Object.entries(file.services);
}

describe("docker-compose.yml", () => {
  test.each(services())("%s: not root, no rights, nothing to write to but volumes and memory", (_name, service) => {
    expect(service.read_only).toBe(true);
    expect(service.cap_drop).toEqual(["ALL"]);
    expect(service.cap_add).toBeUndefined();
    expect(service.security_opt).toEqual(["no-new-privileges:true"]);
    expect(service.privileged).toBeUndefined();
    expect(service.network_mode).toBeUndefined();
    expect(service.user).toMatch(/^[1-9]\d*:[1-9]\d*$/);
    expect(service.pids_limit).toBeGreaterThan(0);
    expect(service.tmpfs?.some((one) => one.startsWith("/tmp:") && one.includes("noexec"))).toBe(true);
    for (const volume of service.volumes ?? []) {
      expect(volume, "no folder of the host's to write to").toMatch(/^[a-z-]+:\/data$|^\.\/[^:]+:[^:]+:ro$/);
    }
  });

  test.each(services())("%s: an exact image, ports for this machine alone, a health check", (_name, service) => {
    if (service.build === undefined) expect(service.image).toMatch(/^[a-z]+:\d+\.\d+\.\d+-[a-z]+$/);
    for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/);
    // What runs once has its exit code.
    if (service.restart === "no") return;
    const words = service.healthcheck?.test ?? [];
    expect(words[0]).toBe("CMD");
    // YAML makes an object of an unquoted text with ": " in it.
    for (const word of words) expect(word).toBeTypeOf("string");
    const script = words.find((word) => typeof word === "string" && word.includes("fetch("));
    if (typeof script === "string") expect(() => new Script(script)).not.toThrow();
  });

  test.each(services())("%s: who answers everyone answers only by known names", (_name, { environment = {} }) => {
    if (environment["ALLOW_ANONYMOUS"] === undefined) return;
    const { ALLOWED_HOSTS } = environment;
    expect(loadConfig({ ALLOWED_HOSTS }).allowedHosts).toEqual(["localhost", "gateway"]);
  });

  test("there is everything that the README names", () => {
    const names = services().map(([name]) => name);
    expect(names).toEqual(
      expect.arrayContaining(["gateway", "redis", "gateway-sentinel", "gateway-cluster", "gateway-a", "proxy"]),
    );
    expect(textOf("docker/nginx.conf")).toContain("listen 8080;");
  });
});

describe("Dockerfile", () => {
  const lines = textOf("Dockerfile")
    .replaceAll("\\\n", " ")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));
  const last = lines.slice(lines.findLastIndex((line) => line.startsWith("FROM ")));

  test("each stage is of the one pinned image, of the Node that the tests run on", () => {
    const { node } = manifest.devDependencies;
    expect(lines[0]).toBe(`ARG NODE_IMAGE=node:${node}-bookworm-slim`);
    const stages = lines.filter((line) => line.startsWith("FROM "));
    expect(stages.map((line) => line.split(" ")[1])).toEqual(stages.map(() => "${NODE_IMAGE}"));
    expect(process.versions.node).toBe(node);
  });

  test("the image holds no development dependency, no sources, no package manager", () => {
    expect(lines).toContain("RUN npm ci --omit=dev --ignore-scripts");
    const copies = last.filter((line) => line.startsWith("COPY"));
    expect(copies).toEqual([
      "COPY --from=dependencies /app/node_modules node_modules",
      "COPY --from=build /app/dist dist",
      "COPY package.json ./",
      "COPY bin bin",
    ]);
    expect(last.find((line) => line.startsWith("RUN "))).toContain("/usr/local/bin/npm");
    expect(lines.filter((line) => /npm (ci|install)/.test(line) && !line.includes("--ignore-scripts"))).toEqual([]);
  });

  test("it runs as an ordinary user, has a health check, and receives signals itself", async () => {
    const user = last.findIndex((line) => line === "USER 1000:1000");
    expect(user).toBeGreaterThan(0);
    // Behind it nothing could be made root's.
    expect(last.slice(user).some((line) => /^(RUN|COPY|ADD|USER root)/.test(line))).toBe(false);
    const check = last.find((line) => line.startsWith("HEALTHCHECK"));
    const [, words = ""] = /CMD (\[.*\])$/.exec(check ?? "") ?? [];
    const [program, flag, script] = JSON.parse(words) as string[];
    expect([program, flag]).toEqual(["node", "-e"]);
    for (const status of [200, 503]) {
      const server = createServer((request, response) => {
        response.writeHead(request.url === "/readyz" ? status : 404).end();
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const { port } = server.address() as AddressInfo; // it listens on TCP
      const child = spawn(process.execPath, ["-e", script ?? ""], { env: { PORT: String(port) } });
      const [code] = (await once(child, "exit")) as [number];
      server.close();
      expect(code, `/readyz answers ${status}`).toBe(status === 200 ? 0 : 1);
    }
    expect(last.at(-1)).toBe(`CMD ${JSON.stringify(manifest.scripts.start.split(" ")).replaceAll(",", ", ")}`);
    expect(last.some((line) => line.startsWith("ENV NODE_ENV=production "))).toBe(true);
  });

  test("files that the build does not need are not sent to it", () => {
    const [first, ...let_in] = textOf(".dockerignore").trimEnd().split("\n");
    expect(first).toBe("*");
    const copied = lines.flatMap((line) => (/^COPY (?!--from)/.test(line) ? line.split(" ").slice(1, -1) : []));
    expect(let_in.map((line) => line.replace("!", "")).sort()).toEqual([...new Set(copied)].sort());
  });
});

/** A second version of a package stands under another name: npm:<package>@<version>. */
const versionIn = (given: string) => given.replace(/^npm:(?:@[\w-]+\/)?[\w-]+@/, "");

describe("dependencies", () => {
  test("each has one exact version", () => {
    const all = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });
    expect(all.filter(([, version]) => !exact.test(versionIn(version)))).toEqual([]);
    expect(textOf(".npmrc")).toContain("save-exact=true");
  });

  test("the lockfile has a hash of each package, the same versions, and names no registry", () => {
    const lock = JSON.parse(textOf("package-lock.json")) as {
      lockfileVersion: number;
      packages: Record<string, { version?: string; integrity?: string; resolved?: string; link?: boolean } & Manifest>;
    }; // npm's form
    expect(lock.lockfileVersion).toBe(3);
    const { "": own, ...packages } = lock.packages;
    expect(own?.dependencies).toEqual(manifest.dependencies);
    expect(own?.devDependencies).toEqual(manifest.devDependencies);
    // The client's package lies here, and so it has neither a hash nor a registry.
    expect(packages["node_modules/parley-client"]).toEqual({ resolved: "packages/client", link: true });
    const others = Object.entries(packages).filter(
      ([path]) => !/^(node_modules\/parley-client|packages\/client)$/.test(path),
    );
    for (const [path, one] of others) {
      expect(one.integrity, path).toMatch(/^sha512-/);
      expect(one.resolved, path).toBeUndefined();
    }
    for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
      expect(packages[`node_modules/${name}`]?.version, name).toBe(versionIn(version));
    }
    expect(textOf("package-lock.json").match(/"resolved"/g)).toHaveLength(1);
    expect(textOf(".npmrc")).not.toMatch(/registry=|_auth/);
  });
});

test("an older Node prints what is needed, in syntax that it can read", () => {
  const program = fileURLToPath(new URL("bin/parley.js", root));
  const pretend = (version: string, args: string[] = []) =>
    spawnSync(
      process.execPath,
      [
        "--input-type=module",
        "--eval",
        `Object.defineProperty(process.versions, "node", { value: ${JSON.stringify(version)} });
         process.argv = [process.argv[0], ${JSON.stringify(program)}, ...${JSON.stringify(args)}];
         await import(${JSON.stringify(new URL("bin/parley.js", root).href)});`,
      ],
      { encoding: "utf8" },
    );
  for (const old of ["12.22.0", "18.20.4", "22.17.1"]) {
    const { status, stderr, stdout } = pretend(old);
    expect(status).toBe(1);
    expect(stderr).toContain(`Parley needs Node 22.18 or later; this is Node ${old}.`);
    expect(stdout).toBe("");
  }
  expect(pretend("22.18.0", ["--version"]).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  // Syntax of its time: nothing that Node 12 would stumble over before it gets to the message.
  expect(textOf("bin/parley.js")).not.toMatch(/\?\?|\?\.|=>|^\s*await\b/m);
});

test("files that a release needs are there", () => {
  const files = readdirSync(root);
  const needed = ["LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "schema.graphql"];
  expect(files).toEqual(expect.arrayContaining(needed));
  expect(textOf("LICENSE")).toMatch(/^MIT License/);
});
