import type { Limits } from "../config/limits.ts";
import type { Telemetry } from "../conversation/ports/telemetry.ts";
import type { Identify } from "../operations/identity.ts";
import type { Logger } from "../operations/logger.ts";
import type { MaskError } from "../operations/masking.ts";
import type { Operations } from "../operations/operation.ts";
import type { Guard } from "./guard/guard.ts";
import type { OriginPolicy } from "./http/origins.ts";
import type { SecurityHeaders } from "./http/security-headers.ts";

/** What the transports of one gateway share. */
export interface TransportParts {
  readonly operations: Operations;
  readonly identify: Identify;
  readonly mask: MaskError;
  readonly logger: Logger;
  readonly telemetry: Telemetry;
  readonly guard: Guard;
  readonly security: SecurityHeaders;
  readonly origins: OriginPolicy;
  readonly limits: Limits;
  /** Nobody new gets in. */
  readonly isDraining: () => boolean;
}
