import type { Environment } from "./command.ts";
import type { RedisBinary } from "./binary.ts";
import { findRedisServer } from "./find.ts";
import { openFolder } from "./folder.ts";
import { withFolderLock } from "./folder-lock.ts";
import type { LaunchOptions } from "./launch.ts";
import { findRunning, launch } from "./launch.ts";
import { Membership } from "./membership.ts";
import { addressUrl } from "./state-file.ts";

interface EmbeddedOptions {
  /** Where the append-only file, the log and the address lie. Made if missing. */
  readonly directory: string;
  readonly environment: Environment;
  readonly onProgress?: ((text: string) => void) | undefined;
  /** Finds the server program; findRedisServer by default. Called only if none runs in the folder yet. */
  readonly find?: (() => Promise<RedisBinary>) | undefined;
}

/** A real redis-server of the gateway's own, shared by all gateways of a folder. */
export interface EmbeddedRedis {
  /** redis://:<password>@127.0.0.1:<port>/0 */
  readonly url: string;
  /** It ran already: another gateway's, or one left over from a gateway that was killed. */
  readonly joined: boolean;
  /** E.g. "7.0.15". */
  readonly version: string;
  /**
   * Leaves it; the last gateway to leave ends it, its append-only file written. Rejects if it does not end. May be
   * called twice. Close other connections before: the server may be gone afterwards.
   */
  readonly stop: () => Promise<void>;
}

/**
 * Starts or joins the folder's redis-server. Each gateway keeps one named connection to it open, and Redis itself
 * counts these: the connection of a gateway that was killed is gone with its process. A server that dies under its
 * gateways is started again by one of them, on the same address. Rejects if no server program can
 * be found, if the folder cannot be written to (FolderError), or if it doesn't start (with the tail of its log, e.g. about a damaged append-only file).
 */
export async function startEmbeddedRedis(options: EmbeddedOptions): Promise<EmbeddedRedis> {
  const { environment, onProgress } = options;
  const directory = await openFolder(options.directory, environment);
  const launching: LaunchOptions = { directory, environment, onProgress };
  const find = options.find ?? ((): Promise<RedisBinary> => findRedisServer({ environment, onProgress }));
  // Two that start at the same time: the second one joins what the first one has started.
  return await withFolderLock(directory, async () => {
    const found = await findRunning(launching);
    const running = found ?? (await launch(await find(), launching));
    const membership = await Membership.open(running, launching, find);
    return {
      url: addressUrl(running.address),
      joined: found !== null,
      version: running.version,
      stop: () => membership.leave(),
    };
  });
}
