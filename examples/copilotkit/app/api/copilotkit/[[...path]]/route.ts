import { HttpAgent } from "@ag-ui/client";
import { CopilotRuntime, createCopilotRuntimeHandler } from "@copilotkit/runtime/v2";
import { parleyUrl } from "../../../../parley-url";
import { ParleyRunner } from "../../../../parley-runner";

const runtime = new CopilotRuntime({
  agents: { default: new HttpAgent({ url: `${parleyUrl}/ag-ui` }) },
  runner: new ParleyRunner(),
});
const handler = createCopilotRuntimeHandler({ runtime, basePath: "/api/copilotkit" });

export { handler as DELETE, handler as GET, handler as PATCH, handler as POST };
