"use client";

import { CopilotChat, CopilotKitProvider } from "@copilotkit/react-core/v2";

export default function Page() {
  return (
    <CopilotKitProvider runtimeUrl="/api/copilotkit" enableInspector={false}>
      <main style={{ height: "100vh" }}>
        <CopilotChat threadId="jim" />
      </main>
    </CopilotKitProvider>
  );
}
