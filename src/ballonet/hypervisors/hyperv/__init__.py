"""Microsoft Hyper-V, by PowerShell remoting. Needs pypsrp: `pip install 'ballonet[hyperv]'`."""
