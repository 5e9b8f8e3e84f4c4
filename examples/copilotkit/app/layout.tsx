import type { ReactNode } from "react";
import "@copilotkit/react-core/v2/styles.css";

export const metadata = { title: "Parley with CopilotKit" };

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
