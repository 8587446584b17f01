using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>What the owner's code called that allocated.</summary>
/// <param name="Api">The interop call (<c>Marshal.AllocHGlobal</c>), the native function (<c>sqlite3_prepare_v2</c>), or what was
/// marshalled; null when nothing is known between the owner and the allocation function.</param>
/// <param name="Import">The P/Invoke declaration through which native code was reached; null when none was, or which one is not
/// known.</param>
internal readonly record struct InteropCall(string? Api, string? Import)
{
    public static InteropCall Of(IReadOnlyList<ResolvedFrame> stack)
    {
        int owner = 0;
        while (owner < stack.Count && !Blame.IsOwner(stack[owner]))
        {
            owner++;
        }

        ResolvedFrame? framework = null, native = null, marshaller = null;
        for (int i = 0; i < owner; i++)
        {
            ResolvedFrame frame = stack[i];
            (framework, native) = frame.Frame.Kind switch
            {
                LeakFrameKind.Managed => (frame, native),
                LeakFrameKind.Native => (framework, frame),
                _ => (framework, native),
            };
            marshaller ??= IsMarshaller(frame) ? frame : null;
        }

        // Without an owner the stack is all native, or ends in the framework: what stands outermost is not what was called.
        if (owner == stack.Count)
        {
            native = Blame.First(stack, static f => f is { Frame.Kind: LeakFrameKind.Native, Role: not ModuleRole.CRuntime });
            framework = null;
        }

        // The declaration is the owner's innermost frame: put back or, where it is generated, on the stack.
        string? entryPoint = owner < stack.Count ? stack[owner].EntryPoint : null;
        string? import = entryPoint is null ? null : stack[owner].Frame.Method;
        string? api = marshaller is { } m ? DescribeMarshaller(m.Frame.Method!)
            : framework is { } f ? ShortName(f.Frame.Method!)
            : native?.Frame.Method ?? entryPoint ?? native?.Frame.ToString();
        return new InteropCall(api, import);
    }

    private static bool IsMarshaller(ResolvedFrame frame) =>
        frame is { Role: ModuleRole.Framework, Frame: { Kind: LeakFrameKind.Managed, Method: { } method } } &&
        (method.StartsWith("System.StubHelpers.", StringComparison.Ordinal) ||
         method.StartsWith("System.Runtime.InteropServices.Marshalling.", StringComparison.Ordinal));

    private static string DescribeMarshaller(string method)
    {
        bool isString = method.Contains("String", StringComparison.OrdinalIgnoreCase) || method.Contains("STR", StringComparison.Ordinal);
        string what = isString ? "a string" : method.Contains("Array", StringComparison.Ordinal) ? "an array" : "an";
        return $"marshaller of {what} argument";
    }

    /// <summary>Type and method: what a reader would look up.</summary>
    private static string ShortName(string method)
    {
        int end = method.IndexOf('(', StringComparison.Ordinal);
        string name = end < 0 ? method : method[..end];
        int depth = 0, dots = 0;
        for (int i = name.Length - 1; i >= 0; i--)
        {
            depth += name[i] switch { '>' => 1, '<' => -1, _ => 0 };
            if (depth == 0 && name[i] == '.' && ++dots == 2)
            {
                return name[(i + 1)..];
            }
        }

        return name;
    }
}
