namespace NativeLeaks.Analysis;

/// <summary>What to do about a leak, by what allocated it. A sentence for the person whose code is named beside it.</summary>
internal static class Advice
{
    /// <summary>Managed calls, without the class's prefix for the tracker's own wrappers.</summary>
    private static readonly Dictionary<string, string> s_managed = new(StringComparer.Ordinal)
    {
        ["Marshal.AllocHGlobal"] = "Free each block with Marshal.FreeHGlobal.",
        ["Marshal.ReAllocHGlobal"] = "Free each block with Marshal.FreeHGlobal.",
        ["Marshal.AllocCoTaskMem"] = "Free each block with Marshal.FreeCoTaskMem.",
        ["Marshal.ReAllocCoTaskMem"] = "Free each block with Marshal.FreeCoTaskMem.",
        ["Marshal.StructureToPtr"] =
            "Call Marshal.DestroyStructure before the memory is freed or written again: the structure's strings and arrays have memory of their own.",
        ["Marshal.StringToBSTR"] = "Free each string with Marshal.FreeBSTR.",
        ["Marshal.SecureStringToBSTR"] = "Free each string with Marshal.ZeroFreeBSTR.",
        ["NativeMemory.Alloc"] = "Free each block with NativeMemory.Free.",
        ["NativeMemory.AllocZeroed"] = "Free each block with NativeMemory.Free.",
        ["NativeMemory.Realloc"] = "Free each block with NativeMemory.Free.",
        ["NativeMemory.AlignedAlloc"] = "Free each block with NativeMemory.AlignedFree, not with NativeMemory.Free.",
        ["NativeMemory.AlignedRealloc"] = "Free each block with NativeMemory.AlignedFree, not with NativeMemory.Free.",
        ["NativeLibrary.Load"] = "Call NativeLibrary.Free when the library is not needed any more, or load it once.",
        ["NativeLibrary.TryLoad"] = "Call NativeLibrary.Free when the library is not needed any more, or load it once.",
    };

    /// <summary>Native functions whose counterpart is not told by their names, or not fully.</summary>
    private static readonly Dictionary<string, string> s_native = new(StringComparer.Ordinal)
    {
        ["malloc"] = FreeIt,
        ["calloc"] = FreeIt,
        ["realloc"] = FreeIt,
        ["reallocarray"] = FreeIt,
        ["posix_memalign"] = FreeIt,
        ["aligned_alloc"] = FreeIt,
        ["memalign"] = FreeIt,
        ["valloc"] = FreeIt,
        ["strdup"] = FreeIt,
        ["strndup"] = FreeIt,
        ["asprintf"] = "Free the string with libc's free; asprintf allocated it.",
        ["vasprintf"] = "Free the string with libc's free; vasprintf allocated it.",
        ["getline"] = "Free the buffer with libc's free, once after the last line, also when getline failed.",
        ["getdelim"] = "Free the buffer with libc's free, once after the last line, also when getdelim failed.",
        ["realpath"] = "Free the path with libc's free, or give realpath a buffer.",
        ["getcwd"] = "Free the path with libc's free, or give getcwd a buffer.",
        ["scandir"] = "Free each entry and then the array with libc's free.",
        ["getaddrinfo"] = "Call freeaddrinfo on the list.",
        ["getifaddrs"] = "Call freeifaddrs on the list.",
        ["fopen"] = "Call fclose on each file.",
        ["fdopen"] = "Call fclose on each file.",
        ["tmpfile"] = "Call fclose on each file.",
        ["open_memstream"] = "Call fclose on the stream, and then libc's free on its buffer.",
        ["popen"] = "Call pclose on each pipe.",
        ["opendir"] = "Call closedir on each folder.",
        ["fdopendir"] = "Call closedir on each folder.",
        ["dlopen"] = "Call dlclose as often as dlopen, or load the library once.",
        ["regcomp"] = "Call regfree on each pattern.",
        ["iconv_open"] = "Call iconv_close on each descriptor.",

        ["sqlite3_open"] = CloseSqlite,
        ["sqlite3_open16"] = CloseSqlite,
        ["sqlite3_open_v2"] = CloseSqlite,
        ["sqlite3_prepare"] = FinalizeStatement,
        ["sqlite3_prepare_v2"] = FinalizeStatement,
        ["sqlite3_prepare_v3"] = FinalizeStatement,
        ["sqlite3_prepare16_v2"] = FinalizeStatement,
        ["sqlite3_prepare16_v3"] = FinalizeStatement,
        ["sqlite3_step"] = "Call sqlite3_finalize on the statement; what it allocates while it runs is freed with it.",
        ["sqlite3_blob_open"] = "Call sqlite3_blob_close on each blob.",
        ["sqlite3_backup_init"] = "Call sqlite3_backup_finish on each backup.",
        ["sqlite3_malloc"] = FreeSqlite,
        ["sqlite3_malloc64"] = FreeSqlite,
        ["sqlite3_realloc"] = FreeSqlite,
        ["sqlite3_realloc64"] = FreeSqlite,
        ["sqlite3_mprintf"] = FreeSqlite,
        ["sqlite3_vmprintf"] = FreeSqlite,
        ["sqlite3_expanded_sql"] = FreeSqlite,
        ["sqlite3_serialize"] = FreeSqlite,
        ["sqlite3_exec"] = "Call sqlite3_free on the error message that sqlite3_exec handed out.",
        ["sqlite3_get_table"] = "Call sqlite3_free_table on the result.",
        ["sqlite3_value_dup"] = "Call sqlite3_value_free on the copy.",

        ["deflateInit_"] = "Call deflateEnd on the stream.",
        ["deflateInit2_"] = "Call deflateEnd on the stream.",
        ["inflateInit_"] = "Call inflateEnd on the stream.",
        ["inflateInit2_"] = "Call inflateEnd on the stream.",
        ["gzopen"] = "Call gzclose on each file.",
        ["BIO_new_mem_buf"] = "Call BIO_free on it.",
        ["EVP_PKEY_CTX_new_id"] = "Call EVP_PKEY_CTX_free on it.",
        ["SSL_CTX_new"] = "Call SSL_CTX_free on it.",
    };

    private const string FreeIt = "Free each block with libc's free (NativeMemory.Free does that).";
    private const string CloseSqlite =
        "Call sqlite3_close_v2 on each connection, also when opening failed; sqlite3_close refuses while statements are open.";
    private const string FinalizeStatement = "Call sqlite3_finalize on each statement.";
    private const string FreeSqlite = "Free it with sqlite3_free.";

    /// <summary>Endings of names by which libraries say what belongs together.</summary>
    private static readonly (string Allocates, string Releases)[] s_pairs =
    [
        ("_open", "_close"), ("_new", "_free"), ("_create", "_destroy"), ("_alloc", "_free"), ("_init", "_end"), ("_dup", "_free"),
        ("_acquire", "_release"), ("_ref", "_unref"), ("_begin", "_end"),
    ];

    /// <summary>The group with its advice, where one is known.</summary>
    public static LeakGroup WithAdvice(this LeakGroup group) => group with { Advice = For(group) };

    private static string? For(LeakGroup group) =>
        group.Verdict == "kept" ? "Release it when what keeps it lets it go; AssertNoGrowth tells whether it grows."
        : (group.FinalizedType ?? DisposableHolder(group)) is { } type ? $"Dispose the {type}: with using, or where its owner is disposed."
        : group.How == "finalizer" ? "Dispose the object that owns it: with using, or where its owner is disposed."
        : group.Api is null ? FreeIt
        : OfManaged(group.Api) ?? OfNative(group.Api);

    /// <summary>The SafeHandle that holds the blocks: its field is called <c>handle</c> (System.Runtime.InteropServices.SafeHandle).</summary>
    private static string? DisposableHolder(LeakGroup group)
    {
        const string Field = ".handle -> block";
        if (group.Holders.Count == 0 || !group.Holders[0].EndsWith(Field, StringComparison.Ordinal))
        {
            return null;
        }

        string way = group.Holders[0][..^Field.Length];
        return way[(way.LastIndexOf("-> ", StringComparison.Ordinal) is >= 0 and var arrow ? arrow + 3 : 0)..];
    }

    private static string? OfManaged(string api)
    {
        string name = api.StartsWith("Tracked", StringComparison.Ordinal) ? api["Tracked".Length..] : api;
        if (s_managed.TryGetValue(name, out string? known))
        {
            return known;
        }

        if (name.StartsWith("marshaller of", StringComparison.Ordinal))
        {
            return "The runtime frees what it marshals by value. Look at ref, out and returned values, and at structures that were never freed: " +
                "the native side or your code has to.";
        }

        // StringToHGlobalUni, SecureStringToGlobalAllocAnsi and the like: one rule for all encodings.
        string secure = name.StartsWith("Marshal.SecureString", StringComparison.Ordinal) ? "Zero" : "";
        return name switch
        {
            _ when name.StartsWith("Marshal.StringToHGlobal", StringComparison.Ordinal) =>
                "Free each string with Marshal.FreeHGlobal.",
            _ when name.StartsWith("Marshal.StringToCoTaskMem", StringComparison.Ordinal) =>
                $"Free each string with Marshal.FreeCoTaskMem, or Marshal.ZeroFreeCoTaskMem{EncodingOf(name)} if it is secret.",
            _ when secure.Length > 0 && name.Contains("GlobalAlloc", StringComparison.Ordinal) =>
                $"Free each string with Marshal.ZeroFreeGlobalAlloc{EncodingOf(name)}.",
            _ when secure.Length > 0 && name.Contains("CoTaskMem", StringComparison.Ordinal) =>
                $"Free each string with Marshal.ZeroFreeCoTaskMem{EncodingOf(name)}.",
            _ => null,
        };
    }

    /// <summary>As the freeing methods call it; .NET's own encoding is UTF-16 wherever a name does not say.</summary>
    private static string EncodingOf(string name) =>
        name.EndsWith("UTF8", StringComparison.Ordinal) ? "UTF8"
        : name.EndsWith("Ansi", StringComparison.Ordinal) ? "Ansi"
        : "Unicode";

    private static string? OfNative(string api)
    {
        if (s_native.TryGetValue(api, out string? known))
        {
            return known;
        }

        // Only the plain names of C: a C++ name is a method of something, whose destructor is meant.
        if (api.Any(static c => !char.IsAsciiLetterOrDigit(c) && c != '_'))
        {
            return null;
        }

        foreach ((string allocates, string releases) in s_pairs)
        {
            if (api.Length > allocates.Length && api.EndsWith(allocates, StringComparison.Ordinal))
            {
                return $"Call the matching release function, probably {api[..^allocates.Length]}{releases}.";
            }
        }

        return null;
    }
}
